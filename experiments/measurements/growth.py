"""Time and memory against the number of pairs, the size of images, the mini-batch and the number of students.

    python experiments/measurements/growth.py
    python experiments/measurements/growth.py --device cuda

Each row (on CUDA each table) is a process of its own, which begins with everything imported. `start-up` is the set-up
of a task on a folder
of pairs of 64x64, with an empty cache: as many training crops as pairs, a tenth of the pairs scored whole. The other
tables time one round. *order* is the exponent between a row and the one before, on a CPU of its own seconds, which do
not depend on what else the machine does: 1 is linear, less is better. Memory is what the process took at most beyond
what it had before task and round, on CUDA what PyTorch allocated at most.
"""

import math
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from experiments.command_line import exit_on_error, make_parser
from experiments.measurements.timing import median_seconds, wait_for
from experiments.output import markdown_table
from fusion_env.action import ACTION_SIZE
from fusion_env.captured import WARM_UPS
from fusion_env.config import preset
from fusion_env.data import write_png
from fusion_env.task import build_task
from fusion_env.vector_env import FusionDistillVectorEnv

__all__ = ["AXES", "Cost", "main", "measure", "order", "table"]


class Axis(NamedTuple):
    """What grows."""

    unit: str
    values: tuple[int, ...]
    quick: tuple[int, ...]
    """With ``--quick``."""


AXES = {
    "start-up": Axis("pairs", (10, 100, 1000, 10_000), (10, 100, 1000)),
    "image size": Axis("pixels", (64**2, 128**2, 256**2, 512**2), (64**2, 128**2, 256**2)),
    "mini-batch": Axis("crops", (2, 4, 8, 16, 32), (2, 4, 8)),
    "students": Axis("K", (1, 2, 4, 8), (1, 2, 4)),
}

_SIDE = 64
_REPEATS = 3


def write_pairs(folder: Path, count: int) -> None:
    """Write pairs of noise."""
    rng = np.random.default_rng(0)
    for number in range(count):
        for side, shape in (("ir", (_SIDE, _SIDE)), ("vi", (_SIDE, _SIDE, 3))):
            write_png(folder / side / f"{number:05d}.png", rng.integers(0, 256, shape).astype(np.uint8))


class Cost(NamedTuple):
    """What one row costs."""

    seconds: float
    cpu: float
    """Seconds of the CPU."""
    mib: float


def _measure(axis: str, device: str, value: int) -> Cost:
    """Measure one row; runs in a process of its own."""
    torch.set_num_threads(1)
    target = torch.device(device)
    if target.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(target)
    with tempfile.TemporaryDirectory() as folder:
        start = {"student_init": "random", "stage0_rounds": 0, "cache_dir": f"{folder}/cache", "rounds": 10_000}
        settings: dict[str, Any] = {**start, "threads": 1, "device": device}
        _warm_up(settings)
        work: Callable[[], object]
        if axis == "start-up":
            write_pairs(Path(folder), value)
            settings |= {"data": folder, "bank_size": value, "score_size": None, "score_crops": None}
            before, work, repeats = _peak_mib(target), partial(build_task, preset("tiny", **settings)), 0
        else:
            before, work, repeats = _peak_mib(target), _round_of(axis, value, settings), _REPEATS
        began, began_cpu = time.perf_counter(), time.process_time()
        if repeats:
            taken = median_seconds(work, target, repeats)
        else:
            work()
            wait_for(target)
            taken = time.perf_counter() - began
        cpu = (time.process_time() - began_cpu) / (repeats + 1)
        return Cost(taken, cpu, _peak_mib(target) - (0 if target.type == "cuda" else before))


def _warm_up(settings: dict[str, Any]) -> None:
    """Build another task first, so that what is loaded and set up at the first use does not count."""
    other = settings | {"bank_size": 4, "cache_dir": f"{settings['cache_dir']}-other"}
    build_task(preset("tiny", **other))


def _round_of(axis: str, value: int, settings: dict[str, Any]) -> Callable[[], object]:
    """Return a round of students of which one thing has a given size."""
    students = 1
    if axis == "image size":
        side = math.isqrt(value)
        scored = {"score_size": side, "score_crops": 2}
        settings |= {"crop_size": side, "scene_height": side, "scene_width": max(side, 80), "bank_size": 4, **scored}
    elif axis == "mini-batch":
        settings |= {"batch_size": value, "bank_size": 32, "crop_size": 64}
    else:
        students = value
    env = FusionDistillVectorEnv(students, "tiny", **settings)
    env.reset(seed=0)
    step = partial(env.step, np.zeros((students, ACTION_SIZE), np.float32))
    if settings["device"] != "cpu":
        for _ in range(WARM_UPS + 1):  # the last one captures
            step()
    return step


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(axis: str, device: str, values: Sequence[int]) -> list[Cost]:
    """Measure an axis."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.measurements.growth"])  # by this name wherever the command begins
    costs: list[Cost] = []
    for part in [values] if device.startswith("cuda") else [[value] for value in values]:
        with ProcessPoolExecutor(1, context) as pool:  # `multiprocessing.Pool` waits for ever for a process that died
            costs += pool.map(partial(_measure, axis, device), part)
    return costs


def order(values: Sequence[int], costs: Sequence[Cost], *, on_cuda: bool) -> float:
    """Return the exponent with which the time grows from the first row to the last; 1 is linear."""
    first, last = (cost.seconds if on_cuda else cost.cpu for cost in (costs[0], costs[-1]))
    return math.log(last / first) / math.log(values[-1] / values[0])


def table(axis: str, values: Sequence[int], costs: Sequence[Cost], *, on_cuda: bool) -> str:
    """Lay out what was measured on an axis."""
    lines = []
    for number, (value, cost) in enumerate(zip(values, costs, strict=True)):
        told = ""
        if number:
            told = f"{order(values[number - 1 : number + 1], costs[number - 1 : number + 1], on_cuda=on_cuda):.2f}"
        lines.append([value, f"{cost.seconds:.3g}", f"{cost.cpu:.3g}", told, f"{cost.mib:.0f}"])
    header = [AXES[axis].unit, "seconds", "seconds of the CPU", "order", "MiB"]
    return f"Growth: {axis}\n\n{markdown_table(header, lines, right_from=0)}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="without the largest rows")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    args = parser.parse_args(arguments)
    for axis in args.axes:
        values = AXES[axis].quick if args.quick else AXES[axis].values
        costs = measure(axis, args.device, values)
        print(table(axis, values, costs, on_cuda=args.device.startswith("cuda")), flush=True)
    return 0


if __name__ == "__main__":
    exit_on_error(main)
