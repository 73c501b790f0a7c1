"""Minari: a data set with infos, created and loaded back."""

from collections.abc import Callable
from pathlib import Path

import gymnasium
import pytest

from tests.clients.plain_loop import ROUNDS, assert_same


@pytest.mark.slow
def test_data_set(make: Callable[[], gymnasium.Env], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari", reason="needs the extra [clients]")
    pytest.importorskip("jax", reason="Minari collects with it: needs the extra [clients]")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    collector = minari.DataCollector(make(), record_infos=True)
    collector.action_space.seed(0)
    left = []
    for seed in (3, 4):
        collector.reset(seed=seed)
        for _ in range(ROUNDS):
            collector.step(collector.action_space.sample())
        left.append(collector.unwrapped.last_run)
    collector.create_dataset("fusion/tiny-v0", eval_env=collector.env, description="two runs")

    loaded = minari.load_dataset("fusion/tiny-v0")
    for seed, episode, last_run in zip((3, 4), loaded, left, strict=True):
        assert_same(make(), [seed, *episode.actions], episode.rewards, last_run)
        assert episode.infos["report"].shape == (ROUNDS + 1, 2, len(last_run.report))
        assert episode.infos["report"][-1, 0].tolist() == list(last_run.report.values())
        assert episode.infos["round"].tolist() == list(range(ROUNDS + 1))
    assert loaded.recover_environment().spec.kwargs["rounds"] == ROUNDS
