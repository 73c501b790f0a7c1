"""Time K students beside each other: in turn, at a time in threads of one process, and in K processes.

    python experiments/measurements/vector_speed.py
    python experiments/measurements/vector_speed.py --device cuda --presets demo

Each way is a process of its own, `SubprocVecEnv` with K more below it, which share what their parent has built. The
ways of one row alternate, step by step; medians count. Memory is read from outside: the proportional set size (PSS) of
a process and of all below it, in which shared memory counts once; on CUDA also what the device has less of. Students in
turn take all CPU threads, the others one each. Reads /proc, so it needs Linux.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from experiments.command_line import exit_on_error, make_parser
from experiments.output import markdown_table
from experiments.processes import end
from fusion_env.action import ACTION_SIZE
from fusion_env.captured import WARM_UPS
from fusion_env.config import DistillConfig, preset
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import MissingRequirementsError
from fusion_env.sb3_vec_env import StudentsVecEnv
from fusion_env.task import resolve_device

__all__ = ["WAYS", "main", "measure", "memory_mb"]

WAYS = {"in turn": "all", "at a time": "one", "SubprocVecEnv": "one"}
"""The CPU threads of each student."""


def make_students(way: str, config: DistillConfig, count: int) -> VecEnv:
    """Make the students of one way; those of processes share the task of this one where a fork can."""
    first = FusionDistillEnv(config=config)
    if way != "SubprocVecEnv":
        return StudentsVecEnv(first.task, count, workers=1 if way == "in turn" else None)
    if first.task.device.type == "cuda":  # does not survive a fork
        return SubprocVecEnv([_Make(config)] * count, start_method="spawn")
    return SubprocVecEnv([lambda: FusionDistillEnv.from_task(first.task)] * count, start_method="fork")


@dataclass(frozen=True)
class _Make:
    config: DistillConfig

    def __call__(self) -> FusionDistillEnv:
        return FusionDistillEnv(config=self.config)


def _serve(pipe: Connection, way: str, config: DistillConfig, count: int) -> None:
    """Take a step whenever the other side asks for one, and tell how long it took."""
    env = make_students(way, config, count)
    env.seed(0)
    env.reset()
    actions = np.zeros((count, ACTION_SIZE), np.float32)
    while pipe.recv():
        start = time.perf_counter()
        env.step(actions)
        pipe.send(time.perf_counter() - start)
    env.close()


@contextmanager
def _started(way: str, config: DistillConfig, count: int) -> Iterator[tuple[BaseProcess, Connection]]:
    """Start one way in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, way, config, count))
    process.start()
    theirs.close()
    try:
        yield process, ours
        ours.send(False)
    finally:
        ours.close()
        end([process])


def _seconds(process: BaseProcess, pipe: Connection) -> float:
    pipe.send(True)
    while not pipe.poll(1):  # processes below a killed one keep its end of the pipe open
        if not process.is_alive():
            raise RuntimeError(f"a process that is timed ended with status {process.exitcode}")
    return pipe.recv()


def memory_mb(process: int) -> float:
    """Return the proportional set size of a process and of all below it, in units of 10^6 bytes."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
        except OSError:  # ended in the meantime
            continue
    total, left = 0.0, [process]
    while left:
        number = left.pop()
        left += parents.get(number, [])
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total / 1e6


def _device_mb(device: torch.device) -> float:
    if device.type == "cpu":
        return 0.0
    free, total = torch.cuda.mem_get_info(device)
    return (total - free) / 1e6


def measure(config: DistillConfig, count: int, steps: int, cores: int) -> list[dict[str, Any]]:
    """Time the ways against each other.

    Returns:
        For each way its name, rounds per second, and memory of processes and device in MB.
    """
    device, rows = resolve_device(config.device), []
    with _all_started(config, count, cores) as started:
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(steps):
            for way, (process, pipe, _) in started.items():
                seconds[way].append(_seconds(process, pipe))
        for way, (process, _, on_device) in started.items():
            assert process.pid is not None
            rows.append(
                {
                    "way": way,
                    "rounds/s": count / statistics.median(seconds[way]),
                    "MB": memory_mb(process.pid),
                    **({"device MB": on_device} if device.type == "cuda" else {}),
                }
            )
    return rows


@contextmanager
def _all_started(
    config: DistillConfig, count: int, cores: int
) -> Iterator[dict[str, tuple[BaseProcess, Connection, float]]]:
    """Start all ways, one after the other, each warmed up; with what each took of the device's memory."""
    device, started = resolve_device(config.device), {}
    with ExitStack() as stack:
        for way, threads in WAYS.items():
            before = _device_mb(device)
            own = config.replace(threads=cores if threads == "all" else 1)
            process, pipe = stack.enter_context(_started(way, own, count))
            for _ in range(WARM_UPS + 2 if device.type == "cuda" else 1):  # the last but one captures
                _seconds(process, pipe)
            started[way] = process, pipe, _device_mb(device) - before
        yield started


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--presets", nargs="+", default=["tiny", "bench"], help="what to train")
    parser.add_argument("--students", nargs="+", type=int, default=[2, 4, 8], metavar="K", help="numbers of students")
    parser.add_argument("--steps", type=int, default=3, help="steps of each way; of tiny, five times as many")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    args = parser.parse_args(arguments)
    if not Path("/proc/self/smaps_rollup").exists():
        raise MissingRequirementsError("vector_speed reads memory from /proc: run it on Linux")
    cores = len(os.sched_getaffinity(0))
    print(
        f"torch {torch.__version__}, {args.device}, {cores} cores, medians of {args.steps} steps (tiny: 5 times that)\n"
    )
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.presets:
            # The student's start does not matter for time; this one needs no stage 0.
            start = {"student_init": "random", "stage0_rounds": 0, "cache_dir": folder, "rounds": 10_000}
            config = preset(name, **start, device=args.device)
            for count in args.students:
                rows = measure(config, count, args.steps * (5 if name == "tiny" else 1), cores)
                other = rows[-1]
                for row in rows:
                    share = row["rounds/s"] / other["rounds/s"], row["MB"] / other["MB"]
                    lines.append([name, count, *row.values(), *share])
                header = ["preset", "K", *rows[0], "rounds/s : SubprocVecEnv", "MB : SubprocVecEnv"]
    print(markdown_table(header, lines, decimals=2, right_from=1))
    return 0


if __name__ == "__main__":
    exit_on_error(main)
