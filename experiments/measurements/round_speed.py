"""Time one round of each preset, part by part, against its floor and against a plain loop.

    python experiments/measurements/round_speed.py --threads 2
    python experiments/measurements/round_speed.py --device cuda --presets demo paper \
        --variants float32 autocast contiguous

The floor is the time that the student's and the feature network's multiplications alone would take at the rate of a
large matrix product or convolution, measured in the same run. The alternative is what a first implementation would do:
clean and degraded inputs through the student one after the other, and the teacher run in every iteration.

`paper` has the paper's networks and sizes, but stand-ins for what must be fetched: procedural scenes, the embedded
teacher (the same network), and VGG-19 and CLIP with random weights, which take the same time.
"""

import statistics
import tempfile
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from experiments.command_line import exit_on_error, make_parser
from experiments.measurements.timing import Clock, seconds
from experiments.output import markdown_table
from fusion_env.action import ACTION_SIZE, decode_action
from fusion_env.captured import WARM_UPS
from fusion_env.config import preset
from fusion_env.degradation import degrade, draw_noise
from fusion_env.env import FusionDistillEnv
from fusion_env.losses import guidance_loss, self_learning_loss, total_loss
from fusion_env.task import resolve_device

__all__ = ["main"]

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "bench": {},
    "demo": {},
    "paper": {
        "data": "procedural",
        "scenes": 240,  # a tenth of them are the 24 that the paper scores
        "scene_height": 512,
        "scene_width": 640,
        "iterations": 123,  # one pass over the 2,940 pairs of M3FD
        "bank_size": 1200,
        "teacher": "embedded",
        "perception": "vgg19-untrained",
        "iqa": "clip-untrained",
    },
}
VARIANTS: dict[str, dict[str, Any]] = {
    "float32": {},
    "autocast": {"autocast": True},
    "contiguous": {"channels_last": False},
    "uncaptured": {"capture": "off"},
}
ACTION = np.zeros(ACTION_SIZE, np.float32)


def multiplication_rate(
    device: torch.device, dtype: torch.dtype = torch.float32, repeats: int = 5, clock: Clock = time.perf_counter
) -> float:
    """Return the floating-point operations per second that the device can do at best.

    That of a large square matrix product; on CUDA in TF32, as convolutions run. On a CPU that of a large convolution
    where it is higher: PyTorch's libraries for the two differ, and on processors of AMD the former has half the speed.
    """
    size = 8192 if device.type == "cuda" else 1536
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        rate = 2 * size**3 / min(seconds(lambda: a @ b, device, clock) for _ in range(repeats))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    if device.type == "cuda":
        return rate
    channels, side = 128, 224
    image = torch.randn(1, channels, side, side, generator=generator).to(dtype, memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3, generator=generator).to(dtype, memory_format=torch.channels_last)
    taken = min(seconds(lambda: F.conv2d(image, kernel, padding=1), device, clock) for _ in range(repeats))
    return max(rate, 2 * 9 * channels**2 * side**2 / taken)


def plain_round(env: FusionDistillEnv) -> None:
    """Do the training of one round as a first implementation would."""
    task, student = env.task, env.student
    optimizer = torch.optim.Adam(student.parameters(), lr=env.config.learning_rate)
    weights, degradation = decode_action(ACTION)
    generator = torch.Generator().manual_seed(0)
    for _ in range(task.iterations):
        index = torch.randint(len(task.bank), (env.config.batch_size,), generator=generator)
        ir, vis, _ = task.bank.batch(index.to(task.device))
        with torch.no_grad():
            target = task.teacher.fuse_luma(ir=ir, vis=vis)
        bad_ir, bad_vis = (degrade(x, degradation, draw_noise(x.shape, generator, task.device)) for x in (ir, vis))
        fused, fused_bad = student(ir=ir, vis=vis), student(ir=bad_ir, vis=bad_vis)
        guidance = guidance_loss(task.features(fused), task.features(target))
        loss = total_loss(guidance, self_learning_loss(fused, fused_bad), weights, task.scales)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def round_flops(env: FusionDistillEnv) -> int:
    """Count the floating-point operations of student and feature network in one round, backward passes included."""
    return iteration_flops(env) * env.task.iterations + scoring_flops(env)


def iteration_flops(env: FusionDistillEnv) -> int:
    """Count those of one iteration."""
    with FlopCounterMode(display=False) as counter:
        run_networks(env)
    return counter.get_total_flops()


def run_networks(env: FusionDistillEnv) -> None:
    """Take a mini-batch through student, feature network and back; never compiled, so that it can be counted."""
    task, config = env.task, env.config
    ir, vis, target = task.bank.batch(torch.arange(config.batch_size, device=task.device) % len(task.bank))
    with torch.autocast(task.device.type, torch.bfloat16, enabled=config.autocast):
        fused = env.student(ir=torch.cat([ir, ir]), vis=torch.cat([vis, vis])).float()
        loss = F.mse_loss(fused[: len(ir)], fused[len(ir) :] + 1)
        loss = loss + guidance_loss(task.features(fused[: len(ir)]), task.features(target))
    loss.backward()


def scoring_flops(env: FusionDistillEnv) -> int:
    """Count those of the student where a round is scored."""
    task = env.task
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for images in task.scored:
            ir, vis, _ = images.batch(torch.arange(len(images), device=task.device))
            env.student(ir=ir, vis=vis)
    count = sum(map(len, task.scored))
    return counter.get_total_flops() * (env.config.score_images or count) // count


def measure(name: str, variant: str, rounds: int, device: torch.device, cache_dir: str) -> dict[str, float]:
    """Time `rounds` rounds of a preset and as many plain ones, interleaved.

    Returns:
        Medians in seconds; the parts of a round, too, on the CPU (on CUDA they would only be the times to launch them),
        and the most memory taken on CUDA, in MiB.
    """
    # The student's start does not matter for time; this one needs no stage 0.
    overrides = {"student_init": "random", "stage0_rounds": 0, "cache_dir": cache_dir, "rounds": rounds + WARM_UPS + 2}
    config = preset(name, **VARIANTS[variant] | overrides, device=str(device))
    env = FusionDistillEnv(config=config)
    env.reset(seed=0)
    for _ in range(WARM_UPS + 1):  # the last of them captures its first iteration, where rounds are captured
        env.step(ACTION)
    before = env.timings
    steps, plain = [], []
    other = env.fork()
    memory = 0
    for _ in range(rounds):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        steps.append(seconds(lambda: env.step(ACTION), device))
        if device.type == "cuda":
            memory = max(memory, torch.cuda.max_memory_allocated(device))
        plain.append(seconds(lambda: plain_round(other), device) + seconds(other.run.score, device))
    rate = multiplication_rate(device, torch.bfloat16 if config.autocast else torch.float32)
    row = {
        "round": statistics.median(steps),
        "plain": statistics.median(plain),
        "floor": round_flops(env) / rate,
    }
    if device.type == "cuda":
        return row | {"MiB": memory / 2**20}
    parts = {part: (total - before[part]) / rounds for part, total in env.timings.items()}
    return row | parts | {"rest": max(0.0, statistics.mean(steps) - sum(parts.values()))}


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--rounds", type=int, default=8, help="rounds to time for each preset")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=["tiny", "bench", "demo"])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=["float32"])
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    rate = multiplication_rate(device)
    print(f"torch {torch.__version__}, {machine}, {args.threads} thread(s), multiplications {rate / 1e9:.0f} GFLOP/s\n")
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.presets:
            for variant in args.variants:
                label = name if variant == "float32" else f"{name}, {variant}"
                rows[label] = measure(name, variant, args.rounds, device, folder)
    columns = list(next(iter(rows.values())))
    lines = []
    for label, row in rows.items():
        values = (f"{row[column]:.0f}" if column == "MiB" else row[column] for column in columns)
        lines.append([label, *values, f"{row['plain'] / row['round']:.2f}", f"{row['round'] / row['floor']:.1f}"])
    print(markdown_table(["preset", *columns, "plain / round", "round / floor"], lines, decimals=3))
    return 0


if __name__ == "__main__":
    exit_on_error(main)
