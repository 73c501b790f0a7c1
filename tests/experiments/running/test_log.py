"""What a run logs, to TensorBoard and to anything else."""

from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import Image, KVWriter, filter_excluded_keys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.running.policies import run_config
from experiments.running.run import run


class Memory(KVWriter):
    """Keeps what it gets, but what is not for TensorBoard."""

    def __init__(self) -> None:
        self.written: list[tuple[int, dict[str, Any]]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.written.append((step, filter_excluded_keys(key_values, key_excluded, "tensorboard")))

    def close(self) -> None:
        pass


def test_a_writer_gets_what_tensorboard_gets(cache: str, tmp_path: Path) -> None:
    settings = {"cache_dir": cache, "threads": 1, "rounds": 3, "batch_size": 1, "score_crops": 1}
    memory = Memory()
    run(run_config("reinforce", "tiny", settings, details=False), tmp_path / "run", writers=[memory])
    numbers = {name for _, values in memory.written for name in values}
    assert {"env/reward", "env/gap"} <= numbers
    pictures = [(step, value) for step, values in memory.written for value in values.values() if type(value) is Image]
    assert [step for step, _ in pictures] == [1, 2]  # the last round's is gone: the environment has begun a new run
    assert pictures[0][1].image.shape == (480, 640, 3)
    assert (pictures[0][1].image != pictures[1][1].image).any()

    log = EventAccumulator(str(tmp_path / "run")).Reload()
    assert numbers == {*log.Tags()["scalars"], *log.Tags()["images"]}
    assert [event.step for event in log.Images("env/picture")] == [1, 2]
