"""Time the fusion metrics against other libraries and check the limits that the project sets itself.

    python experiments/measurements/metric_speed.py --threads 1 2 --out docs/results/metric-speed.md
    python experiments/measurements/metric_speed.py --device cuda

Everything is timed in one run, in turns, on one picture with its two sources, and reported as medians. "plain torch" is
what a first implementation looks like: one convolution of a single channel for every filter, one metric at a time. On
the CPU the exit status is 1 if a limit is broken; other work on the machine can do that, so repeat it on a quiet one.
"""

import ctypes
import importlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.command_line import exit_on_error, make_parser
from experiments.measurements.timing import median_seconds, seconds
from experiments.output import markdown_table, print_or_write
from fusion_env import metrics
from fusion_env.errors import MissingRequirementsError

__all__ = ["main"]

OURS = "fusion_env"
LIBRARIES = ("plain torch", "piq", "torchmetrics", "sewar")
SET = ("ag", "ei", "sf", "sd", "en", "vif")
SET_NAME = " + ".join(SET)
SLOW_SECONDS, SLOW_REPEATS = 0.5, 3
MEMORY_LIMIT = 200

Images = tuple[Tensor, Tensor, Tensor]
"""Fused, infrared, visible: ``[B, 1, H, W]``, float32, 0..1."""
Contest = dict[str, dict[str, Callable[[], object]]]
"""For each metric, how each library computes it."""
CPU = torch.device("cpu")


def _metric_names() -> list[str]:
    """Return the metrics of the package that need no weights."""
    return [name for name in metrics.names() if name != "clip_iqa"]


def picture(height: int, width: int, batch: int = 1, device: torch.device = CPU) -> Images:
    """Draw pictures with detail on every scale."""
    generator = torch.Generator().manual_seed(0)
    planes = torch.zeros(3, batch, height, width)
    for size in (4, 16, 64, min(height, width)):
        coarse = torch.rand(3, batch, size, size, generator=generator)
        planes += F.interpolate(coarse, (height, width), mode="bilinear") / 4
    planes = planes.mul_(255).round_().div_(255).unsqueeze(2).to(device)
    return planes[0], planes[1], planes[2]


def plain_ag(fused: Tensor) -> Tensor:
    """Average gradient: two convolutions, replicated border."""
    image = F.pad(fused * 255, (1, 1, 1, 1), mode="replicate")
    across = F.conv2d(image, torch.tensor([[[[0.0, 0, 0], [-0.5, 0, 0.5], [0, 0, 0]]]]))
    down = F.conv2d(image, torch.tensor([[[[0.0, -0.5, 0], [0, 0, 0], [0, 0.5, 0]]]]))
    return ((across**2 + down**2) / 2).sqrt().mean()


def plain_ei(fused: Tensor) -> Tensor:
    """Edge intensity: two Sobel convolutions, zero border."""
    kernel = torch.tensor([[[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]]])
    across, down = (F.conv2d(fused * 255, weights, padding=1) for weights in (kernel, kernel.mT))
    return (across**2 + down**2).sqrt().mean()


def plain_sf(fused: Tensor) -> Tensor:
    """Spatial frequency."""
    image = fused * 255
    rows, columns = image[..., 1:, :] - image[..., :-1, :], image[..., 1:] - image[..., :-1]
    return ((rows**2).mean() + (columns**2).mean()).sqrt()


def plain_en(fused: Tensor) -> Tensor:
    """Entropy of the histogram."""
    share = torch.histc(fused * 255, 256, 0, 256) / fused.numel()
    return -(share * torch.log2(share + 1e-7)).sum()


def plain_window(size: int, sigma: float) -> Tensor:
    """Two-dimensional Gaussian weights ``[1, 1, size, size]``."""
    axis = torch.exp(-((torch.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return (axis[:, None] * axis / axis.sum() ** 2)[None, None]


def plain_moments(source: Tensor, fused: Tensor, window: Tensor) -> tuple[Tensor, ...]:
    """Means, variances and covariance in a window."""
    mean_s, mean_f = F.conv2d(source, window), F.conv2d(fused, window)
    var_s = F.conv2d(source * source, window) - mean_s**2
    var_f = F.conv2d(fused * fused, window) - mean_f**2
    return mean_s, mean_f, var_s, var_f, F.conv2d(source * fused, window) - mean_s * mean_f


def plain_vifp(source: Tensor, fused: Tensor) -> Tensor:
    """Pixel-domain VIF against one source."""
    source, fused = source * 255, fused * 255
    kept = available = torch.tensor(0.0)
    for size in (17, 9, 5, 3):
        window = plain_window(size, size / 5)
        if size < 17:
            source, fused = (F.conv2d(image, window)[..., ::2, ::2] for image in (source, fused))
        _, _, var_s, var_f, cov = plain_moments(source, fused, window)
        var_s, var_f = var_s.clamp(min=0), var_f.clamp(min=0)
        g = (cov / (var_s + 1e-10)).clamp(min=0)
        v = (var_f - g * cov).clamp(min=1e-10)
        kept = kept + torch.log10(1 + g**2 * var_s / (v + 2)).sum()
        available = available + torch.log10(1 + var_s / 2).sum()
    return kept / available


def plain_ssim(source: Tensor, fused: Tensor) -> Tensor:
    """SSIM with one source."""
    mean_s, mean_f, var_s, var_f, cov = plain_moments(source, fused, plain_window(11, 1.5))
    luminance = (2 * mean_s * mean_f + 1e-4) / (mean_s**2 + mean_f**2 + 1e-4)
    return (luminance * (2 * cov + 9e-4) / (var_s + var_f + 9e-4)).mean()


def contest(images: Images) -> Contest:
    """Collect how each library computes each metric of one picture, all from the same tensors."""
    fused, ir, vis = images
    single = _metric_names()
    entries: Contest = {name: {OURS: _ours([name], images)} for name in single}
    entries[SET_NAME] = {OURS: _ours(SET, images)}
    entries["vif + viff"] = {OURS: _ours(("vif", "viff"), images)}
    entries["all"] = {OURS: _ours(single, images)}

    def both(function: Callable[..., Any], **options: Any) -> Callable[[], object]:
        return lambda: function(vis, fused, **options) + function(ir, fused, **options)

    plain: dict[str, Callable[[], object]] = {
        "ag": lambda: plain_ag(fused),
        "ei_zero": lambda: plain_ei(fused),
        "sf": lambda: plain_sf(fused),
        "sd": lambda: (fused * 255).std(),
        "en": lambda: plain_en(fused),
        "vif": both(plain_vifp),
        "ssim": both(plain_ssim),
    }
    piq, torchmetrics, sewar = (_library(name) for name in ("piq", "torchmetrics.functional.image", "sewar.full_ref"))
    arrays = [(image[0, 0] * 255).byte().numpy() for image in (fused, ir, vis)]
    others: dict[str, dict[str, Callable[[], object]]] = {
        "plain torch": plain,
        "piq": {
            "vif": both(piq.vif_p, data_range=1.0),
            "ssim": both(piq.ssim, data_range=1.0, downsample=False),
            "ms_ssim": both(piq.multi_scale_ssim, data_range=1.0),
        },
        "torchmetrics": {
            "vif": both(lambda source, image: torchmetrics.visual_information_fidelity(255 * image, 255 * source)),
            "ssim": both(torchmetrics.structural_similarity_index_measure, data_range=1.0),
            "ms_ssim": both(torchmetrics.multiscale_structural_similarity_index_measure, data_range=1.0),
        },
        "sewar": {
            "vif": lambda: sum(sewar.vifp(source, arrays[0]) for source in arrays[1:]),
            "ssim": lambda: sum(sewar.ssim(source, arrays[0])[0] for source in arrays[1:]),
        },
    }
    for library, functions in others.items():
        for name, function in functions.items():
            entries[name][library] = function
    return entries


def _ours(names: Sequence[str], images: Images) -> Callable[[], object]:
    fused, ir, vis = images
    return lambda: metrics.compute(names, fused, ir=ir, vis=vis)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise MissingRequirementsError(
            f"this benchmark compares with {package}, which cannot be imported ({error}): "
            'in the folder of fusion-env: pip install -e ".[benchmark]"'
        ) from error


def measure(entries: Contest, repeats: int) -> dict[str, dict[str, float]]:
    """Time all entries in turns; median seconds for each metric and library."""
    times = {name: {library: [seconds(work, CPU)] for library, work in row.items()} for name, row in entries.items()}
    slow = {(name, library): first[0] > SLOW_SECONDS for name, row in times.items() for library, first in row.items()}
    for turn in range(repeats):
        for name, row in entries.items():
            for library, work in row.items():
                if turn < SLOW_REPEATS or not slow[name, library]:
                    times[name][library].append(seconds(work, CPU))
    # The first call of each was the warm-up.
    return {
        name: {library: float(np.median(taken[1:])) for library, taken in row.items()} for name, row in times.items()
    }


def batch_ratio(height: int, width: int, repeats: int) -> float:
    """Return the time of the set for a batch of four over four times that for one picture."""
    one, four = (_ours(SET, picture(height, width, batch)) for batch in (1, 4))
    pairs = [(seconds(one, CPU), seconds(four, CPU)) for _ in range(repeats + 1)][1:]
    return float(np.median([b for _, b in pairs]) / np.median([a for a, _ in pairs]) / 4)


def peak_memory(names: Sequence[str], height: int, width: int) -> float:
    """Return the most memory, in MiB, that a fresh process takes above its inputs to compute metrics."""
    command = [sys.executable, __file__, "--probe", *names, "--size", str(width), str(height)]
    environment_root = str(Path(__file__).resolve().parents[2])
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, cwd=environment_root)
    return float(result.stdout)


def probe(names: Sequence[str], height: int, width: int) -> float:
    """Measure `peak_memory` in this process, which must be a fresh one; Linux only."""
    torch.set_num_threads(1)
    _ours(names, picture(192, 192))()
    images = picture(height, width)
    # What freed memory the allocator keeps would otherwise be used unseen.
    ctypes.CDLL(None).malloc_trim(0)
    before = _memory_field("VmRSS")
    _ours(names, images)()
    return _memory_field("VmHWM") - before


def _memory_field(field: str) -> float:
    """Read a size of this process from the kernel, in MiB."""
    # Not getrusage: its peak starts with that of the process that started this one.
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def table(rows: dict[str, dict[str, float]]) -> str:
    """Write times in milliseconds as a Markdown table."""
    lines = []
    for name, row in rows.items():
        others = (f"{row[x] * 1e3:.1f} ({row[x] / row[OURS]:.1f}x)" if x in row else "" for x in LIBRARIES)
        lines.append([name, f"{row[OURS] * 1e3:.1f}", *others])
    return markdown_table(["metric", OURS, *LIBRARIES], lines)


def check(rows: dict[str, dict[str, float]], batch: float, memory: dict[str, float]) -> list[tuple[str, str, bool]]:
    """Compare with the limits: what is measured, its value, whether it holds."""
    piq = rows["vif"]["piq"]
    vif, chosen, viff = (rows[name][OURS] for name in ("vif", SET_NAME, "viff"))
    results = [
        ("VIF against that of piq: at least 10 times as fast", f"{piq / vif:.1f}", piq >= 10 * vif),
        (f"{SET_NAME} against the VIF of piq: at least 7 times as fast", f"{piq / chosen:.1f}", piq >= 7 * chosen),
        ("VIFF against VIF: at most 3 times as long", f"{viff / vif:.2f}", viff <= 3 * vif),
        ("a batch of 4 against 4 times one picture: at most 1.2", f"{batch:.2f}", batch <= 1.2),
    ]
    for name, used in memory.items():
        limit = f"memory for {name} above the images: at most {MEMORY_LIMIT} MiB"
        results.append((limit, f"{used:.0f}", used <= MEMORY_LIMIT))
    return results


def cpu_report(width: int, height: int, threads: Sequence[int], repeats: int) -> tuple[str, bool]:
    """Measure on the CPU; return the page and whether all limits hold."""
    lines = [
        "# Speed of the metrics",
        "",
        f"One fused picture with its two sources, {width}x{height}, float32, torch {torch.__version__}.",
        "Medians in ms, in brackets the time of the other library in units of ours. Generated by",
        f"`python experiments/measurements/metric_speed.py --threads {' '.join(map(str, threads))} --out FILE`.",
        '"plain torch" is straightforward `conv2d` code, part of that script.',
    ]
    entries = contest(picture(height, width))
    memory = {SET_NAME: peak_memory(SET, height, width), "all metrics": peak_memory(_metric_names(), height, width)}
    holds = True
    for count in threads:
        torch.set_num_threads(count)
        rows = measure(entries, repeats)
        results = check(rows, batch_ratio(height, width, repeats), memory)
        lines += ["", f"## {count} thread{'s' if count > 1 else ''}", "", table(rows), ""]
        verdicts = [(limit, value, "yes" if good else "NO") for limit, value, good in results]
        lines.append(markdown_table(["limit", "measured", "holds"], verdicts))
        holds = holds and all(good for *_, good in results)
    return "\n".join([*lines, ""]), holds


def gpu_report(device: torch.device, width: int, height: int, repeats: int, batch: int = 16) -> str:
    """Measure images per second on a GPU, and how near reading the images once comes to the rate of a device copy."""
    images = picture(height, width, batch, device)
    source = torch.empty(2**28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    rate = 2 * source.numel() / median_seconds(lambda: target.copy_(source), device, repeats)
    heading = f"{torch.cuda.get_device_name()}, batch {batch}, {width}x{height}, float32"
    lines = []
    for name in _metric_names():
        taken = median_seconds(_ours([name], images), device, repeats)
        read = (3 if metrics.get(name).needs_sources else 1) * images[0].numel() * 4 / taken
        lines.append([name, f"{batch / taken:.0f}", f"{read / 1e9:.1f}", f"{read / rate:.1%}"])
    table = markdown_table(["metric", "images/s", "GB/s of input", "of the copy rate"], lines)
    return f"{heading}; device copy {rate / 1e9:.0f} GB/s\n\n{table}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a limit is broken."""
    parser = make_parser(__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=9, help="turns after the warm-up (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 768), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for images per second in batches of 16")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the page there instead of printing it")
    parser.add_argument("--probe", nargs="+", metavar="NAME", help="only print the peak memory in MiB for metrics")
    args = parser.parse_args(arguments)
    width, height = args.size
    if args.probe:
        print(probe(args.probe, height, width))
        return 0
    if args.device == "cpu":
        page, holds = cpu_report(width, height, args.threads, args.repeats)
    else:
        page, holds = gpu_report(torch.device(args.device), width, height, args.repeats), True
    print_or_write(page, args.out)
    return 0 if holds else 1


if __name__ == "__main__":
    exit_on_error(main)
