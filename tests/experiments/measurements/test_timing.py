import time

import torch

from experiments.measurements.timing import median_seconds, seconds

CPU = torch.device("cpu")


def test_seconds_are_those_of_the_call() -> None:
    assert seconds(lambda: time.sleep(0.02), CPU) >= 0.02


def test_the_first_call_does_not_count() -> None:
    lengths = iter([0.1, 0.01, 0.01, 0.01])
    assert 0.01 <= median_seconds(lambda: time.sleep(next(lengths)), CPU, repeats=3) < 0.1
    assert not list(lengths)
