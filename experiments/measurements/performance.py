"""Time rounds against a plain pipeline and a floor, images, students beside each other, and growth: in one run.

    python experiments/measurements/performance.py --quick
    python experiments/measurements/performance.py --device cuda

`plain` is a round as repositories of this field write it, see `plain_pipeline`; that it has the same loss and the same
scores is checked first. Rounds of both alternate; medians count. The floor has two parts: the time that all
multiplications of the student and the feature network take at the rate of a large matrix product (TF32 on CUDA) or
convolution, and the time that their operands and results take at the rate of a copy, each read or written once. The
share of the floor is the larger of the two over the time of a round. Scoring is timed apart, and an iteration is its
share of the rest. Parts of a round are measured apart from it; where rounds are captured as CUDA graphs, there are no
others to be told apart, but the kernels are listed. With one thread on a CPU, its own seconds are counted, which other
programs do not lengthen. `paper` has stand-ins for what must be fetched, see `round_speed`, and 8 iterations; `paper,
whole round` is one with all 123.

On CUDA the last table has everything that one GPU should reach, and what was measured. What has not begun after
``--minutes`` is left out and named. The command has not been run on a GPU.
"""

import argparse
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from experiments.command_line import exit_on_error, make_parser
from experiments.measurements import batched_students, growth, inference_speed, rounds, vector_speed
from experiments.measurements.kernels import kernel_table, kernels
from experiments.measurements.round_speed import multiplication_rate
from experiments.measurements.targets import targets_table
from experiments.measurements.timing import Clock
from experiments.output import markdown_table
from fusion_env.config import DistillConfig
from fusion_env.task import resolve_device
from student.on_cpu import quickest
from student.origin import open_student

__all__ = ["main"]

_QUICK = ("tiny", "bench", "demo")
SECTIONS = ("rounds", "images", "students", "growth")
ON_A_CPU = ("rounds", "growth")
MINUTES = 6.5
"""On CUDA, so that what has begun ends within 8."""
STUDENTS = 8


def measure_images(device: torch.device, size: tuple[int, int], threads: int) -> dict[str, float]:
    """Time the student on whole images, print it, and return what there are targets for."""
    rows, _ = inference_speed.measure(device, size, repeats=7, threads=threads)
    by_way = {row["way"]: row for row in rows}
    print(
        f"{size[0]}x{size[1]}\n\n{markdown_table(list(rows[0]), [row.values() for row in rows], decimals=2)}\n",
        flush=True,
    )
    numbers = {}
    for what, way, column in (
        ("student: ms", inference_speed.CHANNELS_LAST, "ms"),
        ("student: times LDFusion", inference_speed.CHANNELS_LAST, "times LDFusion"),
        ("student: largest error in float16", inference_speed.HALF, "largest error"),
        ("LDFusion: largest error in float16", inference_speed.TEACHER_HALF, "largest error"),
    ):
        if way in by_way:  # a CPU has others
            numbers[what] = float(by_way[way][column])
    return numbers


def student_kernels(device: torch.device, size: tuple[int, int]) -> dict[str, float]:
    """Print the kernels of the student, called as `student.fuse` does, and return what there is a target for."""
    student = open_student(None)[0].eval().to(device)
    fuse = quickest(student.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    ir = vis = torch.rand(1, 1, size[1], size[0], device=device)
    with torch.inference_mode():
        fuse(ir=ir, vis=vis)
        found = kernels(lambda: fuse(ir=ir, vis=vis), device)
    print(f"the student's kernels\n\n{kernel_table(found)}\n", flush=True)
    return {"student: longest kernel, share": max(kernel.longest for kernel in found)}


def show_kernels(name: str, replay: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Print the kernels of a captured round; there are no targets for them."""
    print(f"{name}: kernels of a round\n\n{kernel_table(kernels(replay, device))}\n", flush=True)
    return {}


def measure_students(config: DistillConfig, count: int, cores: int) -> dict[str, float]:
    """Time students beside each other, print it, and return what there are targets for."""
    rows = vector_speed.measure(config, count, steps=3, cores=cores)
    print(
        f"{count} students\n\n{markdown_table(list(rows[0]), [row.values() for row in rows], decimals=2)}\n", flush=True
    )
    by_way = {row["way"]: row for row in rows}
    memory = {way: row["MB"] + row.get("device MB", 0.0) for way, row in by_way.items()}
    ours = by_way["at a time"]["rounds/s"]
    return {
        "students: rounds/s : one": ours / by_way["in turn"]["rounds/s"],
        "students: rounds/s : SubprocVecEnv": ours / by_way["SubprocVecEnv"]["rounds/s"],
        "students: MB : SubprocVecEnv": memory["at a time"] / memory["SubprocVecEnv"],
    }


def measure_batched(config: DistillConfig, count: int, device: torch.device, clock: Clock) -> dict[str, float]:
    """Time iterations of students in turn, at a time and in batched kernels, and print it; there are no targets."""
    taken = batched_students.measure(config, count, device, repeats=5, clock=clock)
    rows = [[way, 1e3 * spent, taken["in turn"] / spent] for way, spent in taken.items()]
    print(
        f"an iteration of {count} students\n\n"
        f"{markdown_table(['way', 'ms', 'times as fast as in turn'], rows, decimals=2)}\n",
        flush=True,
    )
    return {}


def measure_growth(axis: str, device: torch.device, *, quick: bool) -> dict[str, float]:
    """Time one thing that grows, print it, and return its order."""
    values, on_cuda = growth.AXES[axis].quick if quick else growth.AXES[axis].values, device.type == "cuda"
    costs = growth.measure(axis, str(device), values)
    print(growth.table(axis, values, costs, on_cuda=on_cuda), flush=True)
    return {f"growth with {growth.AXES[axis].unit}: order": growth.order(values, costs, on_cuda=on_cuda)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = _parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    on_cuda = device.type == "cuda"
    alone = not on_cuda and args.threads == 1
    clock = time.process_time if alone else time.perf_counter
    _print_machine(device, args, clock, alone)
    lines: list[list[object]] = []
    numbers: dict[str, float] = {}
    left_out, failed = [], []
    began, minutes = time.perf_counter(), args.minutes or (MINUTES if on_cuda else float("inf"))
    with tempfile.TemporaryDirectory() as cache:
        for name, part in _parts_of_the_run(args, device, clock, cache, lines):
            if (time.perf_counter() - began) / 60 > minutes:
                left_out.append(name)
                continue
            try:
                numbers |= part()
            except Exception:  # the others are worth having: a device may be lent for minutes only
                failed.append(name)
                print(f"{name}: {traceback.format_exc()}", flush=True)
    if lines:
        print(f"All rounds\n\n{_table(lines)}\n", flush=True)
    if on_cuda or args.targets:
        print(f"{targets_table(numbers)}\n")
    if left_out:
        print(f"Not begun within {minutes:g} minutes, so not measured: {', '.join(left_out)}.")
    if failed:
        print(f"Failed, see above: {', '.join(failed)}.")
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes")
    return 1 if failed else 0


def _parts_of_the_run(
    args: argparse.Namespace, device: torch.device, clock: Clock, cache: str, lines: list[list[object]]
) -> Iterator[tuple[str, Callable[[], dict[str, float]]]]:
    """Yield what is to be measured, the most important first; rows of rounds go into `lines`."""
    on_cuda = device.type == "cuda"
    workers = min(8, args.threads) if on_cuda else 0

    sections = args.sections or (SECTIONS if on_cuda else ON_A_CPU)

    replays: list[Callable[[], object]] = []

    def row(name: str) -> dict[str, float]:
        which = rounds.ROWS[name]
        with rounds.large_maps(which.large):
            measured = rounds.measure(name, which, device, args.rounds, workers=workers, clock=clock, cache=cache)
        lines.extend(measured.lines)
        print(f"{_table(measured.lines)}\n", flush=True)
        if measured.replay is not None:
            replays.append(measured.replay)
        return measured.numbers

    def parts(names: Sequence[str]) -> Iterator[tuple[str, Callable[[], dict[str, float]]]]:
        for name in names:
            yield name, partial(row, name)
            if replays:
                yield f"kernels of {name}", partial(show_kernels, name, replays.pop(), device)

    rows = (args.rows or (list(_QUICK) if args.quick else list(rounds.ROWS))) if "rounds" in sections else []
    yield from parts(rows[: rounds.MAIN_ROWS])
    if "images" in sections:
        yield "images", partial(measure_images, device, args.size, args.threads)
        yield "kernels of the student", partial(student_kernels, device, args.size)
    if "students" in sections:
        config = rounds.ROWS[args.students_row].config(device=str(device), cache_dir=cache)
        yield "students", partial(measure_students, config, args.students, args.threads)
        yield "students in batched kernels", partial(measure_batched, config, args.students, device, clock)
    yield from parts(rows[rounds.MAIN_ROWS :])
    if "growth" in sections:
        for axis in args.axes:
            yield f"growth: {axis}", partial(measure_growth, axis, device, quick=args.quick)


def _table(lines: list[list[object]]) -> str:
    return markdown_table(["row", "way", *rounds.COLUMNS], lines, right_from=2)


def _print_machine(device: torch.device, args: argparse.Namespace, clock: Clock, alone: bool) -> None:
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {args.threads} thread(s)"
    rate, copied = multiplication_rate(device, clock=clock) / 1e9, rounds.copy_rate(device, clock) / 1e9
    print(
        f"torch {torch.__version__}, {machine}, multiplications {rate:.0f} GFLOP/s, copy {copied:.0f} GB/s, load "
        f"{os.getloadavg()[0]:.1f}; medians of {args.rounds} rounds, in ms{' of the CPU' if alone else ''}\n",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="small rows only, for two CPU cores")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each row that are timed (default: 5)")
    parser.add_argument(
        "--rows", nargs="+", choices=list(rounds.ROWS), help=f"default: all, with --quick {' '.join(_QUICK)}"
    )
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, help="default: all, on a CPU rounds and growth")
    parser.add_argument("--size", type=inference_speed.image_size, default=(1024, 768), help="of images (1024x768)")
    parser.add_argument("--students", type=int, default=STUDENTS, metavar="K", help="students (default: 8)")
    parser.add_argument("--students-row", choices=list(rounds.ROWS), default="demo", help="what they train")
    parser.add_argument(
        "--axes", nargs="+", choices=list(growth.AXES), default=list(growth.AXES)[::-1], help="what grows"
    )
    parser.add_argument("--minutes", type=float, help="begin nothing after these (on CUDA: 6.5)")
    parser.add_argument("--targets", action="store_true", help="print targets on a CPU as well")
    return parser


if __name__ == "__main__":
    exit_on_error(main)
