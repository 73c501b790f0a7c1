"""Rounds, in turns with those of a plain pipeline, and the floor that the machine sets: rows of a table."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from experiments.measurements.network_cost import LiveTensors
from experiments.measurements.plain_pipeline import PlainPipeline, degrade_by_opencv
from experiments.measurements.round_speed import (
    ACTION,
    PRESETS,
    iteration_flops,
    multiplication_rate,
    round_flops,
    run_networks,
)
from experiments.measurements.timing import Clock, seconds, wait_for
from fusion_env.action import decode_action
from fusion_env.captured import WARM_UPS, captures
from fusion_env.config import DistillConfig, preset
from fusion_env.degradation import draw_noise
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import FusionEnvError
from student import layout

__all__ = [
    "COLUMNS",
    "MAIN_ROWS",
    "ROWS",
    "Measured",
    "Row",
    "check_same",
    "copy_rate",
    "large_maps",
    "measure",
    "operand_bytes",
]

PARTS = ("data", "degradation", "teacher", "student", "perception", "backward", "update", "scoring")
COLUMNS = ("round", "iteration", *PARTS, "images/s", "share of floor", "MiB")
TOLERANCE = 1e-2
"""Largest relative difference from the plain pipeline. Its teacher sees luma in whole levels, the bank's did not."""


@dataclass(frozen=True)
class Row:
    """What is timed.

    Attributes:
        settings: Beside those of its preset in `round_speed`.
        compared: Against the plain pipeline and the floor, too.
        rounds: Most rounds that count; None for what is asked.
        large: Takes the place of `student.layout.LARGE`.
    """

    preset: str
    settings: dict[str, Any]
    compared: bool = True
    rounds: int | None = None
    large: int = layout.LARGE

    def config(self, **machine: Any) -> DistillConfig:
        """Return the configuration. The student's start does not matter for time: it needs no stage 0."""
        start = {"student_init": "random", "stage0_rounds": 0, "rounds": 10_000, "moments": "fresh"}
        return preset(self.preset, **{**PRESETS[self.preset], **self.settings, **start, **machine})


_FEW = {"scenes": 240, "bank_size": 48}  # as many scored images as in the paper, and no more crops than must be
ROWS = {
    "tiny": Row("tiny", {}),
    "bench": Row("bench", {}),
    "demo": Row("demo", {}),
    "paper": Row("paper", {"iterations": 8, **_FEW}),
    "paper, bfloat16": Row("paper", {"iterations": 8, **_FEW, "autocast": True}, compared=False),
    "paper, whole round": Row("paper", _FEW, compared=False, rounds=2),
    "demo, uncaptured": Row("demo", {"capture": "off"}, compared=False),
    "paper, uncaptured": Row("paper", {"iterations": 8, **_FEW, "capture": "off"}, compared=False),
    "paper, NCHW": Row("paper", {"iterations": 8, **_FEW, "channels_last": False}, compared=False),
    "demo, all maps in order": Row("demo", {}, compared=False, large=1),
    "paper, no map in order": Row("paper", {"iterations": 8, **_FEW}, compared=False, large=2**62),
    "demo, compiled": Row("demo", {"compiled": True}, compared=False),
    "paper, bfloat16, compiled": Row(
        "paper", {"iterations": 8, **_FEW, "autocast": True, "compiled": True}, compared=False
    ),
}
MAIN_ROWS = 5
"""So many of them are measured before anything else; the others only show what a setting brings."""


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
    """Count what convolutions and products of student and feature network read and write, each operand once."""
    task = env.task
    with _Operands() as iteration:
        run_networks(env)
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
        theirs = plain.loss(ir=ir, vis=vis, bad_ir=bad_ir, bad_vis=bad_vis)
    _compare("loss", float(ours), float(theirs))
    if env.config.score_images is None:  # else fresh ones are drawn
        scores, _, _ = task.scorer.score(env.student)
        for name, value in plain.score(None).items():
            _compare(name, scores[name], value)


def _compare(name: str, ours: float, theirs: float) -> None:
    if not abs(ours - theirs) <= TOLERANCE * abs(ours):
        raise FusionEnvError(f"{name} is {ours:.6g}, in the plain pipeline {theirs:.6g}: they do not do the same")


@contextmanager
def large_maps(numbers: int) -> Iterator[None]:
    """Let maps count as large from so many numbers on."""
    before, layout.LARGE = layout.LARGE, numbers
    try:
        yield
    finally:
        layout.LARGE = before


@dataclass(frozen=True)
class Measured:
    """What came of one row.

    Attributes:
        lines: Of the table.
        numbers: By the name that they have in `targets`.
        replay: One more round, where rounds are captured.
    """

    lines: list[list[object]]
    numbers: dict[str, float]
    replay: Callable[[], object] | None = None


def measure(
    name: str, row: Row, device: torch.device, rounds: int, *, workers: int, clock: Clock, cache: str
) -> Measured:
    """Time rounds, and where asked rounds of the plain pipeline in turns with them.

    Args:
        name: Of the row.
        row: What is timed.
        device: Where.
        rounds: How many count.
        workers: Processes of the plain pipeline's data loader.
        clock: Times everything.
        cache: Folder for the task.
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
    for _ in range(min(rounds, row.rounds or rounds)):
        for way, work in works.items():
            taken[way].append(seconds(work, device, clock))
    medians = {way: statistics.median(times) for way, times in taken.items()}
    floor = _floor(env, config, device, clock)
    captured = captures(config.capture, device)
    scoring = statistics.median(seconds(env.run.score, device, clock) for _ in range(3))
    parts = {
        "ours": {"scoring": scoring} if captured else _parts(env, clock),
        "plain": _plain_parts(plain) if row.compared else {},
    }
    iterations = {"ours": (medians["ours"] - scoring) / env.task.iterations}
    lines: list[list[object]] = []
    for way, work in works.items():
        cells = [_ms(iterations.get(way)), *(_ms(parts[way].get(part)) for part in PARTS)]
        images = config.batch_size * env.task.iterations / medians[way]
        share = max(floor.values()) / medians[way]
        lines.append(
            [name, way, _ms(medians[way]), *cells, f"{images:.0f}", f"{share:.2f}", f"{_peak(work, device):.0f}"]
        )
    if row.compared:
        lines += [[name, f"floor: {what}", _ms(value), *[""] * (len(COLUMNS) - 1)] for what, value in floor.items()]
    of_iteration = iteration_flops(env) / round_flops(env) * floor["multiplications"]
    numbers = {
        "round, ms": 1e3 * medians["ours"],
        "share of scoring": scoring / medians["ours"],
        "iteration, ms": 1e3 * iterations["ours"],
        "iteration, share of its floor": of_iteration / iterations["ours"],
    }
    if row.compared:
        numbers["plain / ours"] = medians["plain"] / medians["ours"]
    told = {f"{name}: {what}": value for what, value in numbers.items()}
    return Measured(lines, told, works["ours"] if captured else None)


def _floor(env: FusionDistillEnv, config: DistillConfig, device: torch.device, clock: Clock) -> dict[str, float]:
    kind = torch.bfloat16 if config.autocast else torch.float32
    return {
        "multiplications": round_flops(env) / multiplication_rate(device, kind, clock=clock),
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
