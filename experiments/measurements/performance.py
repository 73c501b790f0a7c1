"""Time rounds against a plain pipeline and against the floor, then growth, then images and students: all in one run.

    python experiments/measurements/performance.py --quick
    python experiments/measurements/performance.py --device cuda

`plain` is a round as repositories of this field write it, see `plain_pipeline`; that it has the same loss and the same
scores is checked first. Rounds of both alternate; medians count. The floor has two parts: the time that all
multiplications of the student and the feature network take at the rate of a large matrix product (TF32 on CUDA), and
the time that their operands and results take at the rate of a copy, each read or written once. The share of the floor
is the larger of the two over the time of a round. Parts of a round are measured apart from it; where rounds are
captured as CUDA graphs, there are none to be told apart. With one thread on a CPU, its own seconds are counted, which
other programs do not lengthen. `paper` has stand-ins for what must be fetched, see
`round_speed`, and 8 iterations; `paper, whole round` is one with all 123.

On CUDA all of it takes less than 8 minutes on one H100, as far as it was possible to plan: it has not been run there.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from experiments.command_line import exit_on_error, make_parser
from experiments.measurements import growth, inference_speed, vector_speed
from experiments.measurements.network_cost import LiveTensors
from experiments.measurements.plain_pipeline import PlainPipeline, degrade_by_opencv
from experiments.measurements.round_speed import ACTION, PRESETS, matrix_rate, round_flops
from experiments.measurements.timing import Clock, seconds, wait_for
from experiments.output import markdown_table
from fusion_env.action import decode_action
from fusion_env.captured import WARM_UPS, captures
from fusion_env.config import DistillConfig, preset
from fusion_env.degradation import draw_noise
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import FusionEnvError
from fusion_env.task import resolve_device

__all__ = ["ROWS", "check_same", "copy_rate", "main", "operand_bytes"]

PARTS = ("data", "degradation", "teacher", "student", "perception", "backward", "update", "scoring")
COLUMNS = ("round", *PARTS, "images/s", "share of floor", "MiB")
TOLERANCE = 1e-2
"""Largest relative difference from the plain pipeline. Its teacher sees luma in whole levels, the bank's did not."""


@dataclass(frozen=True)
class Row:
    """What is timed.

    Attributes:
        settings: Beside those of its preset in `round_speed`.
        compared: Against the plain pipeline and the floor, too.
    """

    preset: str
    settings: dict[str, Any]
    compared: bool = True

    def config(self, **machine: Any) -> DistillConfig:
        """Return the configuration. The student's start does not matter for time: it needs no stage 0."""
        start = {"student_init": "random", "stage0_rounds": 0, "rounds": 10_000, "moments": "fresh"}
        return preset(self.preset, **{**PRESETS[self.preset], **self.settings, **start, **machine})


_QUICK = ["tiny", "bench", "demo"]
_FEW = {"scenes": 240, "bank_size": 48}  # as many scored images as in the paper, and no more crops than must be
ROWS = {
    "tiny": Row("tiny", {}),
    "bench": Row("bench", {}),
    "demo": Row("demo", {}),
    "demo, uncaptured": Row("demo", {"capture": "off"}, compared=False),
    "paper": Row("paper", {"iterations": 8, **_FEW}),
    "paper, bfloat16": Row("paper", {"iterations": 8, **_FEW, "autocast": True}, compared=False),
    "paper, uncaptured": Row("paper", {"iterations": 8, **_FEW, "capture": "off"}, compared=False),
    "paper, whole round": Row("paper", _FEW, compared=False),
}


def copy_rate(device: torch.device, clock: Clock = time.perf_counter) -> float:
    """Return bytes per second, read and written, of a copy that no cache holds."""
    source = torch.ones(2**28 if device.type == "cuda" else 2**25, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source), device, clock) for _ in range(5))


class _Operands(TorchDispatchMode):
    """Adds up the bytes of all operands and results of convolutions and matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            results = result if isinstance(result, (tuple, list)) else [result]
            self.bytes += sum(value.nbytes for value in (*args, *results) if isinstance(value, torch.Tensor))
        return result


def operand_bytes(env: FusionDistillEnv) -> int:
    """Count what the convolutions and products of a round read and write, each operand once."""
    engine, task = env.run.engine, env.task
    weights, degradation = decode_action(ACTION)
    with _Operands() as iteration:
        torch.stack(engine.losses(weights, degradation, **engine.next_batch()._asdict())).sum().backward()
    with _Operands() as scoring, torch.no_grad():
        for images in task.scored:
            ir, vis, _ = images.batch(torch.arange(len(images), device=task.device))
            env.student(ir=ir, vis=vis)
    count = sum(map(len, task.scored))
    return iteration.bytes * task.iterations + scoring.bytes * (env.config.score_images or count) // count


def check_same(env: FusionDistillEnv, plain: PlainPipeline) -> None:
    """Check that the plain pipeline computes the same loss of the same crops and noise, and the same scores.

    Raises:
        FusionEnvError: It does not, so that a comparison would mean nothing.
    """
    engine, task = env.run.engine, env.task
    weights, degradation = decode_action(ACTION)
    ir, vis, target = engine.next_batch()
    draws = torch.Generator(task.device)
    draws.set_state(engine.state_dict()["noise"])
    noise = draw_noise((2 * len(ir), *ir.shape[1:]), draws, task.device)
    with torch.no_grad():
        guidance, self_learning = engine.losses(weights, degradation, ir=ir, vis=vis, target=target)
        ours = weights.guidance * guidance / task.scales.guidance
        ours = ours + weights.self_learning * self_learning / task.scales.self_learning
        degraded = [
            degrade_by_opencv(
                image[0].cpu().numpy(),
                degradation,
                brightness=float(noise.brightness[number]),
                contrast=float(noise.contrast[number]),
                noise=noise.noise[number, 0].cpu().numpy(),
            )
            for number, image in enumerate(torch.cat([ir, vis]))
        ]
        bad_ir, bad_vis = torch.stack([torch.from_numpy(image)[None] for image in degraded]).to(task.device).chunk(2)
        theirs = plain.loss(ir, vis, bad_ir, bad_vis)
    _compare("loss", float(ours), float(theirs))
    if env.config.score_images is None:  # else fresh ones are drawn
        scores, _, _ = task.scorer.score(env.student)
        for name, value in plain.score(None).items():
            _compare(name, scores[name], value)


def _compare(name: str, ours: float, theirs: float) -> None:
    if not abs(ours - theirs) <= TOLERANCE * abs(ours):
        raise FusionEnvError(f"{name} is {ours:.6g}, in the plain pipeline {theirs:.6g}: they do not do the same")


def measure(
    name: str, row: Row, device: torch.device, rounds: int, *, workers: int, clock: Clock, cache: str
) -> list[list[object]]:
    """Time rounds, and where asked rounds of the plain pipeline in turns with them.

    Args:
        name: Of the row.
        row: What is timed.
        device: Where.
        rounds: How many count.
        workers: Processes of the plain pipeline's data loader.
        clock: Times everything.
        cache: Folder for the task.

    Returns:
        Lines of the table.
    """
    config = row.config(device=str(device), cache_dir=cache)
    env = FusionDistillEnv(config=config)
    env.reset(seed=0)
    other = env.fork()
    plain = PlainPipeline(other, *decode_action(ACTION), workers=workers, clock=clock)
    if row.compared:
        check_same(other, plain)
    for _ in range(WARM_UPS + 1):
        env.step(ACTION)
    works: dict[str, Callable[[], object]] = {"ours": lambda: env.step(ACTION)}
    if row.compared:
        works["plain"] = plain.round
        works["plain"]()
    taken: dict[str, list[float]] = {way: [] for way in works}
    for _ in range(rounds):
        for way, work in works.items():
            taken[way].append(seconds(work, device, clock))
    floor = _floor(env, config, device, clock)
    parts = {
        "ours": {} if captures(config.capture, device) else _parts(env, clock),
        "plain": _plain_parts(plain) if row.compared else {},
    }
    lines: list[list[object]] = []
    for way, work in works.items():
        median = statistics.median(taken[way])
        cells = [_ms(parts[way].get(part)) for part in PARTS]
        images = config.batch_size * env.task.iterations / median
        share = max(floor.values()) / median
        lines.append([name, way, _ms(median), *cells, f"{images:.0f}", f"{share:.2f}", f"{_peak(work, device):.0f}"])
    if row.compared:
        lines += [[name, f"floor: {what}", _ms(value), *[""] * (len(COLUMNS) - 1)] for what, value in floor.items()]
    return lines


def _floor(env: FusionDistillEnv, config: DistillConfig, device: torch.device, clock: Clock) -> dict[str, float]:
    kind = torch.bfloat16 if config.autocast else torch.float32
    return {
        "multiplications": round_flops(env) / matrix_rate(device, kind, clock=clock),
        "bytes": operand_bytes(env) / copy_rate(device, clock),
    }


def _parts(env: FusionDistillEnv, clock: Clock) -> dict[str, float]:
    """Return the seconds of each part of one round, waiting for the device after each."""
    engine, taken = env.run.engine, dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        start = clock()
        yield
        wait_for(env.task.device)
        taken[part] += clock() - start

    engine.timed = timed  # type: ignore[method-assign]
    env.step(ACTION)
    del engine.timed
    return {part: taken[part] for part in PARTS if part != "teacher"}


def _plain_parts(plain: PlainPipeline) -> dict[str, float]:
    plain.timings.clear()
    plain.waits = True
    plain.round()
    plain.waits = False
    return plain.timings


def _peak(work: Callable[[], object], device: torch.device) -> float:
    """Return the MiB that one call takes: on CUDA all that is allocated, elsewhere live tensors beyond the task's."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) / 2**20
    with LiveTensors() as live:
        work()
    return live.peak / 2**20


def _ms(value: float | None) -> str:
    return "" if value is None else f"{1e3 * value:.3g}" if value < 1 else f"{1e3 * value:.0f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="small rows only, for two CPU cores")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each row that are timed (default: 5)")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), help=f"default: all, with --quick {' '.join(_QUICK)}")
    parser.add_argument("--only-rounds", action="store_true", help="leave out growth, images and students")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    on_cuda = device.type == "cuda"
    alone = not on_cuda and args.threads == 1
    clock = time.process_time if alone else time.perf_counter
    machine = torch.cuda.get_device_name(device) if on_cuda else f"CPU, {args.threads} thread(s)"
    rate, copied = matrix_rate(device, clock=clock) / 1e9, copy_rate(device, clock) / 1e9
    print(
        f"torch {torch.__version__}, {machine}, matrix product {rate:.0f} GFLOP/s, copy {copied:.0f} GB/s, load "
        f"{os.getloadavg()[0]:.1f}; medians of {args.rounds} rounds, in ms{' of the CPU' if alone else ''}\n",
        flush=True,
    )
    lines: list[list[object]] = []
    workers = min(8, args.threads) if on_cuda else 0
    with tempfile.TemporaryDirectory() as cache:
        for name in args.rows or (_QUICK if args.quick else list(ROWS)):
            lines += measure(name, ROWS[name], device, args.rounds, workers=workers, clock=clock, cache=cache)
    print(markdown_table(["row", "way", *COLUMNS], lines, right_from=2), flush=True)
    if not args.only_rounds:
        print(flush=True)
        growth.main(["--device", args.device, *(["--quick"] if args.quick else [])])
    if on_cuda and not args.only_rounds:
        vector_speed.main(["--device", args.device, "--presets", "demo", "--students", "8"])
        print(flush=True)
        inference_speed.main(["--device", args.device])
    return 0


if __name__ == "__main__":
    exit_on_error(main)
