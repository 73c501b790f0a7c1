"""Time one round of each preset, part by part, against its floor and against a plain loop.

    python experiments/benchmark_rounds.py --threads 2

The floor is the time that the student's and the feature network's multiplications alone would take at the rate of a
large matrix product, measured in the same run. The alternative is what a first implementation would do: clean and
degraded inputs through the student one after the other, and the teacher run in every iteration.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from experiments.command_line import exit_on_error
from fusion_env.action import decode_action
from fusion_env.config import preset
from fusion_env.degradation import degrade, draw_noise
from fusion_env.env import FusionDistillEnv
from fusion_env.losses import guidance_loss, self_learning_loss, total_loss

__all__ = ["main"]

PRESETS = ("tiny", "bench", "demo")
ACTION = np.zeros(7, np.float32)


def matrix_rate(size: int = 1536, repeats: int = 5) -> float:
    """Return floating-point operations per second of a square float32 matrix product."""
    a, b = torch.ones(size, size), torch.ones(size, size)
    return 2 * size**3 / min(_seconds(lambda: a @ b) for _ in range(repeats))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def plain_round(env: FusionDistillEnv) -> None:
    """Do the training of one round as a first implementation would."""
    task, student = env.task, env.student
    optimizer = torch.optim.Adam(student.parameters(), lr=env.config.learning_rate)
    weights, degradation = decode_action(ACTION)
    generator = torch.Generator().manual_seed(0)
    for _ in range(task.iterations):
        index = torch.randint(len(task.bank), (env.config.batch_size,), generator=generator)
        ir, vis, _ = task.bank.batch(index)
        with torch.no_grad():
            target = task.teacher.fuse_luma(vis, ir)
        bad_ir, bad_vis = (degrade(x, degradation, draw_noise(x.shape, generator)) for x in (ir, vis))
        fused, fused_bad = student(vis, ir), student(bad_vis, bad_ir)
        guidance = guidance_loss(task.features(fused), task.features(target))
        loss = total_loss(guidance, self_learning_loss(fused, fused_bad), weights, task.scales)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def round_flops(env: FusionDistillEnv) -> int:
    """Count the floating-point operations of student and feature network in one round, backward passes included."""
    task, config = env.task, env.config
    ir, vis, target = task.bank.batch(torch.arange(config.batch_size) % len(task.bank))
    with FlopCounterMode(display=False) as counter:
        fused = env.student(torch.cat([vis, vis]), torch.cat([ir, ir]))
        loss = F.mse_loss(fused[: len(ir)], fused[len(ir) :] + 1)
        loss = loss + guidance_loss(task.features(fused[: len(ir)]), task.features(target))
        loss.backward()
    iteration = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ir, vis, _ = task.scored.batch(torch.arange(len(task.scored)))
        env.student(vis, ir)
    return iteration * task.iterations + counter.get_total_flops()


def measure(name: str, rounds: int, rate: float, cache_dir: str) -> dict[str, float]:
    """Time `rounds` rounds of a preset and as many plain ones, interleaved; seconds, medians."""
    # The student's start does not matter for time; this one needs no stage 0.
    overrides = {"student_init": "random", "stage0_rounds": 0, "cache_dir": cache_dir, "rounds": rounds + 2}
    env = FusionDistillEnv(config=preset(name, **overrides))
    env.reset(seed=0)
    env.step(ACTION)
    before = env.timings
    steps, plain = [], []
    other = env.fork()
    for _ in range(rounds):
        steps.append(_seconds(lambda: env.step(ACTION)))
        plain.append(_seconds(lambda: plain_round(other)) + _seconds(other._score))
    parts = {part: (seconds - before[part]) / rounds for part, seconds in env.timings.items()}
    total = statistics.median(steps)
    floor = round_flops(env) / rate
    rest = max(0.0, statistics.mean(steps) - sum(parts.values()))
    return {"round": total, "plain": statistics.median(plain), "floor": floor, **parts, "rest": rest}


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8, help="rounds to time for each preset")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    rate = matrix_rate()
    print(f"torch {torch.__version__}, {args.threads} thread(s), matrix product {rate / 1e9:.0f} GFLOP/s\n")
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: measure(name, args.rounds, rate, folder) for name in args.presets}
    columns = list(rows[args.presets[0]])
    print(f"| preset | {' | '.join(columns)} | plain / round | round / floor |")
    print("|---|" + "---|" * (len(columns) + 2))
    for name, row in rows.items():
        values = " | ".join(f"{row[column]:.3f}" for column in columns)
        print(f"| {name} | {values} | {row['plain'] / row['round']:.2f} | {row['round'] / row['floor']:.1f} |")
    return 0


if __name__ == "__main__":
    exit_on_error(lambda: main(sys.argv[1:]))
