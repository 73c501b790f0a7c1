"""SAC in one file, for environments with one-dimensional Box spaces: to be read, copied and changed.

python experiments/single_file/sac.py --total-steps 500
python experiments/single_file/sac.py --num-envs 4 --env-settings '{"rounds": 50}'

Needs only PyTorch, Gymnasium and NumPy. The defaults suit episodes of 25 to 100
steps. Finished episodes go to the console and into a CSV file in runs/.
"""

import argparse
import copy
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
from torch.nn import functional

__all__ = ["Critics", "Learner", "Player", "Policy", "Settings", "Step", "main", "make_envs", "train"]

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
    total_steps: int = _setting(500, "steps of all environments together; all are remembered")
    learning_starts: int = _setting(4, "random steps of all environments together before the first update")
    gradient_steps: int = _setting(4, "updates after each step of the environments")
    batch_size: int = _setting(16, "samples in a mini-batch, drawn with replacement")
    learning_rate: float = _setting(0.003, "step size of Adam")
    gamma: float = _setting(0.9, "discount factor")
    tau: float = _setting(0.005, "share of the critics that the target takes over in an update")
    alpha: float = _setting(0.1, "first weight of the entropy, which is learnt")
    out: str = _setting("", "CSV file (default: runs/sac-seedN-TIME.csv)")


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
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, outputs))


class Policy(nn.Module):
    """A Gaussian that `tanh` squashes into the action space."""

    def __init__(self, observations: int, actions: int) -> None:
        super().__init__()
        self.network = _network(observations, 2 * actions)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Sample an action [..., N] for observations [..., M], and return its log-density [...]."""
        mean, log_std = self.network(obs).chunk(2, -1)
        distribution = Normal(mean, log_std.clamp(-5, 2).exp())
        sample = distribution.rsample()
        # log(1 - tanh(x)^2), written so that it stays exact where tanh(x) rounds to 1
        squashed = 2 * (np.log(2) - sample - functional.softplus(-2 * sample))
        return sample.tanh(), (distribution.log_prob(sample) - squashed).sum(-1)


class Critics(nn.Module):
    """Two estimates of the value of an action."""

    def __init__(self, observations: int, actions: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(_network(observations + actions, 1) for _ in range(2))

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return both [2, B] for observations [B, M] and actions [B, N]."""
        return torch.stack([network(torch.cat([obs, action], -1)).squeeze(-1) for network in self.networks])


class Learner:
    """Policy, critics, their target, the weight of the entropy, and how they are updated."""

    def __init__(self, observations: int, actions: int, settings: Settings) -> None:
        self.settings = settings
        self.policy, self.critics = Policy(observations, actions), Critics(observations, actions)
        self.target = copy.deepcopy(self.critics)
        self.log_alpha = torch.tensor(float(np.log(settings.alpha)), requires_grad=True)
        self.least_entropy = -float(actions)
        parameters = (self.policy.parameters(), self.critics.parameters(), [self.log_alpha])
        self.optimizers = [torch.optim.Adam(group, settings.learning_rate) for group in parameters]

    def update(self, batch: Step) -> dict[str, float]:
        """Take one step with each network."""
        alpha = self.log_alpha.exp().detach()
        values = self.critics(batch.obs, batch.action)
        critic_loss = (values - self.targets(batch)).square().mean(-1).sum()
        _descend(self.optimizers[1], critic_loss)
        action, log_prob = self.policy(batch.obs)
        policy_loss = (alpha * log_prob - self.critics(batch.obs, action).amin(0)).mean()
        _descend(self.optimizers[0], policy_loss)
        _descend(self.optimizers[2], -self.log_alpha * (log_prob.detach() + self.least_entropy).mean())
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.critics.parameters(), strict=True):
                slow.lerp_(fast, self.settings.tau)
        return {"policy_loss": policy_loss.item(), "critic_loss": critic_loss.item(), "alpha": alpha.item()}

    @torch.no_grad()
    def targets(self, batch: Step) -> Tensor:
        """Return what the critics should say [B].

        The value of what comes after is zero at a termination only: a truncated episode could have gone on.
        """
        action, log_prob = self.policy(batch.next_obs)
        following = self.target(batch.next_obs, action).amin(0) - self.log_alpha.exp() * log_prob
        return batch.reward + self.settings.gamma * following * ~batch.terminated


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def train(envs: VectorEnv, settings: Settings, log: Log = print) -> Policy:
    """Train a policy.

    Args:
        envs: Environments with one-dimensional Box spaces, in any autoreset mode.
        settings: Settings; those of the environment are not used here.
        log: Gets every finished episode.

    Raises:
        ValueError: There are too few steps for one update, or a number is out of range.
    """
    if not envs.num_envs <= settings.learning_starts < settings.total_steps:
        raise ValueError(
            f"learning_starts must be at least the number of environments, {envs.num_envs}, and below total_steps, "
            f"{settings.total_steps}, or nothing is learnt. Got {settings.learning_starts}"
        )
    torch.manual_seed(settings.seed)
    player = Player(envs, settings.seed, log)
    learner = Learner(*player.sizes, settings)
    memory: list[Step] = []
    while player.steps < settings.total_steps:
        with torch.no_grad():
            action, _ = learner.policy(torch.as_tensor(player.obs, dtype=torch.float32))
        if player.steps < settings.learning_starts:
            action = 2 * torch.rand_like(action) - 1
        step = player.step(action)
        memory += [Step(*(part[row] for part in step)) for row in step.real.nonzero().squeeze(-1)]
        if player.steps >= settings.learning_starts:
            for _ in range(settings.gradient_steps):
                rows = torch.randint(len(memory), (settings.batch_size,))
                batch = Step(*map(torch.stack, zip(*(memory[row] for row in rows), strict=True)))
                player.losses = learner.update(batch)
    return learner.policy


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
    out = Path(settings.out or f"runs/sac-seed{settings.seed}-{time.strftime('%Y%m%d-%H%M%S')}.csv")
    envs = make_envs(settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["step", "env", "return", "length", "policy_loss", "critic_loss", "alpha"])
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
