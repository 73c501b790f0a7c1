"""PPO in one file, for environments with one-dimensional Box spaces: to be read, copied and changed.

python experiments/single_file/ppo.py --total-steps 500
python experiments/single_file/ppo.py --num-envs 4 --env-settings '{"rounds": 50}'

Needs only PyTorch, Gymnasium and NumPy. The defaults suit episodes of 25 to 100
steps. Finished episodes go to the console and into a CSV file in runs/.
"""

import argparse
import csv
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from torch import Tensor, nn
from torch.distributions import Normal

__all__ = ["Player", "Policy", "Settings", "Step", "advantages", "main", "make_envs", "train"]

Log = Callable[[dict[str, float]], None]


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """What a run depends on; each field is an option of the command."""

    env_id: str = _setting("fusion_env:fusion_env/FusionDistill-v0", "environment, with the module that registers it")
    env_settings: str = _setting("{}", "keywords of the environment, as JSON")
    num_envs: int = _setting(1, "environments side by side: 1 by gymnasium.make, more by gymnasium.make_vec")
    seed: int = _setting(0, "seed of networks, samples and environments")
    total_steps: int = _setting(500, "steps of all environments together; the last rollout is finished")
    rollout_steps: int = _setting(10, "steps of each environment between two updates")
    epochs: int = _setting(10, "passes over a rollout in an update")
    batch_size: int = _setting(10, "least samples in a mini-batch")
    learning_rate: float = _setting(0.001, "step size of Adam")
    gamma: float = _setting(0.8, "discount factor")
    gae_lambda: float = _setting(0.95, "decay of the advantage estimator")
    clip: float = _setting(0.2, "how far the probability ratio may move in an update")
    value_coef: float = _setting(0.5, "weight of the value loss")
    max_grad_norm: float = _setting(0.5, "longest gradient of a step")
    out: str = _setting("", "CSV file (default: runs/ppo-seedN-TIME.csv)")


class Step(NamedTuple):
    """One step of all environments; the first axis of everything is the environment."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    """What the action led to: at the end of an episode its last observation, not the first of the next one."""
    terminated: Tensor
    done: Tensor
    real: Tensor
    """False where the environment only reset itself; the row is to be left out."""


def _box(space: gymnasium.Space) -> gymnasium.spaces.Box:
    if not (isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1):
        raise TypeError(f"observations and actions must be one-dimensional Box spaces. Got {space}")
    return space


class Player:
    """Step a vector environment, whatever its autoreset mode, with actions in [-1, 1], and log finished episodes."""

    def __init__(self, envs: VectorEnv, seed: int, log: Log) -> None:
        seen, acted = _box(envs.single_observation_space), _box(envs.single_action_space)
        if not acted.is_bounded():
            raise ValueError(f"the action space must have finite bounds. Got {acted}")
        if "autoreset_mode" not in envs.metadata:
            raise ValueError("the vector environment must say in metadata['autoreset_mode'] when it resets itself")
        self.envs, self.log = envs, log
        self.mode = AutoresetMode(envs.metadata["autoreset_mode"])
        self.low, self.high = acted.low, acted.high
        self.sizes = seen.shape[0], acted.shape[0]
        self.obs, _ = envs.reset(seed=seed)
        self.resetting = np.zeros(envs.num_envs, bool)
        self.returns, self.lengths = np.zeros(envs.num_envs), np.zeros(envs.num_envs, int)
        self.steps = 0
        self.losses: dict[str, float] = {}

    def step(self, action: Tensor) -> Step:
        """Step once; actions [E, N] outside [-1, 1] are clipped for the environment only."""
        unit = (action.numpy().clip(-1, 1) + 1) / 2
        next_obs, reward, terminated, truncated, info = self.envs.step(self.low + unit * (self.high - self.low))
        obs, real, done = self.obs, ~self.resetting, terminated | truncated
        self.obs = next_obs
        if self.mode is AutoresetMode.NEXT_STEP:
            self.resetting = done  # the next step ignores the action
        elif done.any() and self.mode is AutoresetMode.SAME_STEP:
            next_obs = next_obs.copy()
            for index in np.flatnonzero(done):
                next_obs[index] = info["final_obs"][index]
        elif done.any():
            self.obs, _ = self.envs.reset(options={"reset_mask": done})
        self._count(reward, done, real)
        numbers = (torch.as_tensor(value, dtype=torch.float32) for value in (obs, action, reward, next_obs))
        return Step(*numbers, *map(torch.tensor, (terminated, done, real)))

    def _count(self, reward: np.ndarray, done: np.ndarray, real: np.ndarray) -> None:
        self.steps += int(real.sum())
        self.returns += reward * real
        self.lengths += real
        for index in np.flatnonzero(done):
            ended = {"env": int(index), "return": float(self.returns[index]), "length": int(self.lengths[index])}
            self.log({"step": self.steps, **ended, **self.losses})
        self.returns[done], self.lengths[done] = 0, 0


def _network(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, outputs))


class Policy(nn.Module):
    """A Gaussian over actions whose deviation does not depend on the observation, and a value function."""

    def __init__(self, observations: int, actions: int) -> None:
        super().__init__()
        self.mean, self.value = _network(observations, actions), _network(observations, 1)
        self.log_std = nn.Parameter(torch.full((actions,), -0.5))
        with torch.no_grad():
            next(self.mean[-1].parameters()).mul_(0.01)  # the first actions are about 0 in the middle of the space

    def forward(self, obs: Tensor) -> Normal:
        """Return the distribution of actions [..., N] for observations [..., M]."""
        return Normal(self.mean(obs), self.log_std.exp())


@torch.no_grad()
def advantages(policy: Policy, rollout: Step, settings: Settings) -> tuple[Tensor, Tensor]:
    """Estimate advantages and returns [T, E] of a rollout whose fields are [T, E, ...].

    The value of what comes after is zero at a termination only: a truncated episode could have gone on.
    """
    value, next_value = policy.value(rollout.obs).squeeze(-1), policy.value(rollout.next_obs).squeeze(-1)
    delta = rollout.reward + settings.gamma * next_value * ~rollout.terminated - value
    estimate, following = torch.zeros_like(delta), torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        following = delta[t] + settings.gamma * settings.gae_lambda * following * ~rollout.done[t]
        estimate[t] = following
    return estimate, estimate + value


def _update(
    policy: Policy, optimizer: torch.optim.Optimizer, rollout: Step, log_prob: Tensor, settings: Settings
) -> dict[str, float]:
    advantage, target = advantages(policy, rollout, settings)
    real = rollout.real
    obs, action, log_prob, advantage, target = (
        part[real] for part in (rollout.obs, rollout.action, log_prob, advantage, target)
    )
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(obs)).chunk(max(1, len(obs) // settings.batch_size)):
            gain = advantage[rows]
            gain = (gain - gain.mean()) / (gain.std() + 1e-8) if len(rows) > 1 else gain
            ratio = (policy(obs[rows]).log_prob(action[rows]).sum(-1) - log_prob[rows]).exp()
            clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
            policy_loss = -torch.minimum(ratio * gain, clipped * gain).mean()
            value_loss = (policy.value(obs[rows]).squeeze(-1) - target[rows]).square().mean()
            optimizer.zero_grad()
            (policy_loss + settings.value_coef * value_loss).backward()
            nn.utils.clip_grad_norm_(policy.parameters(), settings.max_grad_norm)
            optimizer.step()
    return {"policy_loss": policy_loss.item(), "value_loss": value_loss.item()}


def train(envs: VectorEnv, settings: Settings, log: Log = print) -> Policy:
    """Train a policy.

    Args:
        envs: Environments with one-dimensional Box spaces, in any autoreset mode.
        settings: Settings; those of the environment are not used here.
        log: Gets every finished episode.

    Raises:
        ValueError: There are too few steps for one update.
    """
    least = envs.num_envs * settings.rollout_steps
    if not 0 < least <= settings.total_steps:
        raise ValueError(
            f"total_steps must be at least num_envs * rollout_steps = {least}, or nothing is learnt, and that more "
            f"than 0. Got {settings.total_steps}"
        )
    torch.manual_seed(settings.seed)
    player = Player(envs, settings.seed, log)
    policy = Policy(*player.sizes)
    optimizer = torch.optim.Adam(policy.parameters(), settings.learning_rate)
    while player.steps < settings.total_steps:
        steps, log_probs = [], []
        for _ in range(settings.rollout_steps):
            with torch.no_grad():
                distribution = policy(torch.as_tensor(player.obs, dtype=torch.float32))
                action = distribution.sample()
                log_probs.append(distribution.log_prob(action).sum(-1))
            steps.append(player.step(action))
        rollout = Step(*map(torch.stack, zip(*steps, strict=True)))
        player.losses = _update(policy, optimizer, rollout, torch.stack(log_probs), settings)
    return policy


def make_envs(settings: Settings) -> VectorEnv:
    """Make the environments; several share what they can if the environment has a vector form of its own."""
    keywords = json.loads(settings.env_settings)
    if settings.num_envs == 1:
        return SyncVectorEnv([lambda: gymnasium.make(settings.env_id, **keywords)])
    return gymnasium.make_vec(settings.env_id, settings.num_envs, **keywords)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for item in dataclasses.fields(Settings):
        option, kind = f"--{item.name.replace('_', '-')}", type(item.default)
        parser.add_argument(option, type=kind, default=item.default, help=item.metadata["help"])
    settings = Settings(**vars(parser.parse_args(arguments)))
    out = Path(settings.out or f"runs/ppo-seed{settings.seed}-{time.strftime('%Y%m%d-%H%M%S')}.csv")
    envs = make_envs(settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["step", "env", "return", "length", "policy_loss", "value_loss"])
        writer.writeheader()

        def log(episode: dict[str, float]) -> None:
            writer.writerow(episode)
            file.flush()
            print("  ".join(f"{name} {value:.5g}" for name, value in episode.items()), flush=True)

        train(envs, settings, log)
    for index, env in enumerate(getattr(envs, "envs", ())):
        last = getattr(env.unwrapped, "last_run", None)
        if last is not None:  # the student of the last finished run, on images that the agent never saw
            print(f"student {index}: " + "  ".join(f"{name} {value:.4f}" for name, value in last.report.items()))
    print(f"Written to {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
