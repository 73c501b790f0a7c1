"""A run is the same whatever its caller has set."""

from pathlib import Path

import pytest
import torch

from experiments.running.policies import run_config
from experiments.running.run import run


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["ppo", "reinforce"])
def test_a_run_under_a_collectors_settings(agent: str, cache: str, tmp_path: Path) -> None:
    settings = {"cache_dir": cache, "threads": 1, "rounds": 8}
    agent_settings = {"n_steps": 4, "batch_size": 4} if agent == "ppo" else {}
    config = run_config(
        agent, "tiny", settings, learning_runs=1, protocol="online", details=False, agent_settings=agent_settings
    )
    run(config, tmp_path / "plain")
    with torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        run(config, tmp_path / "caller")
    for name in ("rounds.csv", "student.safetensors"):
        assert (tmp_path / "caller" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
