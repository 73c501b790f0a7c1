"""Continue saved agents; run as ``python -m tests.agents.continuation FOLDER`` it does so in a process of its own."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

import agents
from tests.agents.toy import Walk

STEPS = 40


def make_env(normalised: bool) -> VecEnv:
    """Two environments whose episodes end at different times."""
    env = DummyVecEnv([lambda: Walk(7), lambda: Walk(5)])
    return VecNormalize(env) if normalised else env


def result(agent: BaseAlgorithm, env: VecEnv, actions_before: list[list]) -> dict[str, Any]:
    """Everything that two equal agents have in common."""
    buffer = getattr(agent, "replay_buffer", None)
    arrays = (
        {} if buffer is None else {key: torch.as_tensor(getattr(buffer, key)) for key in ("observations", "rewards")}
    )
    normaliser = agent.get_vec_normalize_env()
    rounds = [
        [*before, *(action.tolist() for action in one.log)]
        for before, one in zip(actions_before, env.unwrapped.envs, strict=True)
    ]
    archive = io.BytesIO()
    agent.save(archive)
    archive.seek(0)
    saved, _, _ = load_from_zip_file(archive)
    counters = [saved[name] for name in ("num_timesteps", "_n_updates", "_episode_num")]
    action, _ = agent.predict(agent.env.reset(), deterministic=True)
    return {
        "actions": torch.tensor(rounds),
        "parameters": agent.get_parameters(),
        "entropy": getattr(agent, "log_ent_coef", None),
        "buffer": arrays,
        "counters": [*counters, agents.gradient_updates(agent)],
        "episodes": [[float(info["r"]), info["l"]] for info in agent.ep_info_buffer],
        "statistics": [] if normaliser is None else [normaliser.obs_rms.mean.tolist(), float(normaliser.ret_rms.var)],
        "search": [getattr(agent, "best_reward", None), getattr(agent, "episodes", None)],
        "prediction": torch.as_tensor(action),
    }


def continue_one(name: str, folder: Path, normalised: bool) -> dict[str, Any]:
    """Load an agent and its environment, and learn to the end."""
    saved = json.loads((folder / "env.json").read_text())
    env = make_env(normalised)
    env.reset()
    for one, state in zip(env.unwrapped.envs, saved["states"], strict=True):
        one.unwrapped.load_state_dict(state)
    agent = agents.load_state(name, folder / "agent.pt", env)
    agent.learn(STEPS - agent.num_timesteps, reset_num_timesteps=False)
    return result(agent, env, saved["actions"])


def main(folder: Path) -> None:
    """Continue every agent below a folder."""
    torch.set_num_threads(1)
    for one in sorted(folder.iterdir()):
        name, normalised = one.name.rsplit("@", 1)
        torch.save(continue_one(name, one, normalised == "normalised"), one / "result.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
