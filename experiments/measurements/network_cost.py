"""Size, cost, memory and speed of the student and of the published networks: Table 3 of the paper, measured here.

    python experiments/measurements/network_cost.py --repeats 5 --out runs/efficiency

Parameters and multiply-adds are counted at 224x224, once by the rules of thop, as published tables do, and once as what
is really multiplied (thop leaves out functional calls, and counts four times too much for transposed convolutions of
stride 2). Latency and memory are those of whole images as this package runs the networks, from infrared and visible
RGB to luma, batch 1, float32, with random weights. All networks take turns in one run, so that the machine's mood hits
all alike; ratios to LDFusion are the figures to quote.
"""

import argparse
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from experiments.command_line import exit_on_error, make_parser
from experiments.measurements.thop_counts import thop_counts
from experiments.measurements.timing import seconds
from experiments.output import markdown_table, save_figure, write_csv, write_text
from fusion_env import teachers
from fusion_env.data.colour import rgb_to_luma
from fusion_env.task import resolve_device
from fusion_env.teachers.text_if import TextIFWithClip
from student import FusionStudent

__all__ = [
    "NETWORKS",
    "SIZES",
    "Cost",
    "LiveTensors",
    "count_all",
    "count_cost",
    "heading",
    "main",
    "measure",
    "timed_networks",
    "write_results",
]

REFERENCE = "ldfusion"
COUNT_SIZE = 224


class _Student(FusionStudent):
    """The student behind the teachers' interface."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return super().forward(ir, rgb_to_luma(vis))


@dataclass(frozen=True)
class _Network:
    """A row of the table."""

    build: Callable[[], nn.Module]
    paper_params_m: float | None
    paper_flops_g: float | None
    timed: bool = True


NETWORKS = {
    "student": _Network(_Student, 0.65, 2.71),
    "ldfusion": _Network(lambda: teachers.get("ldfusion")(), 5.78, 13.09),
    "sage": _Network(lambda: teachers.get("sage")(), 0.13, 3.32),
    "tdfusion": _Network(lambda: teachers.get("tdfusion")(), 0.059, 2.97),
    "dcevo": _Network(lambda: teachers.get("dcevo")(), 2.97, 149.05),
    "timfusion": _Network(lambda: teachers.get("timfusion")(), 1.23, 35.26),
    "kdfuse": _Network(lambda: teachers.get("kdfuse")(), 2.49, 125.02),
    "text_if": _Network(lambda: teachers.get("text_if")(), None, None),
    # The paper counts the text encoder; it never runs here, as the prompt is constant.
    "text_if+clip": _Network(TextIFWithClip, 215.11, 249.71, timed=False),
}
SIZES = {"1024x768": "M3FD", "640x480": "MSRS", "620x448": "TNO"}
"""Width x height of the images of the paper's data sets."""


@dataclass
class Cost:
    """What one network costs.

    Attributes:
        params: All parameters.
        thop_params: Parameters as thop counts them.
        thop: Multiply-adds at 224x224 as thop counts them.
        multiply_adds: Multiply-adds at 224x224 of every convolution and matrix product.
        latency: Seconds by size, median.
        peak: Bytes by size; see `measure`.
        failure: Why a size was not measured, by size.
    """

    params: int
    thop_params: int
    thop: int
    multiply_adds: int
    latency: dict[str, float] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    failure: dict[str, str] = field(default_factory=dict)


def _images(height: int, width: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Return infrared and visible RGB of noise."""
    generator = torch.Generator().manual_seed(0)
    ir, vis = (torch.rand(1, channels, height, width, generator=generator) for channels in (1, 3))
    return ir.to(device), vis.to(device)


@torch.no_grad()  # inference mode hides operations from the counters of older versions
def count_cost(network: nn.Module) -> Cost:
    """Count parameters and multiply-adds at 224x224.

    Args:
        network: Maps infrared [1, 1, H, W] and visible RGB [1, 3, H, W]; on any device, ``"meta"`` takes no time.
    """
    network.eval()
    params = sum(p.numel() for p in network.parameters())
    images = _images(COUNT_SIZE, COUNT_SIZE, next(network.parameters()).device)
    with FlopCounterMode(display=False) as counter:
        network(*images)
    thop_count, thop_params = thop_counts(network, images)
    return Cost(params, thop_params, thop_count, counter.get_total_flops() // 2)


def count_all(names: Sequence[str]) -> dict[str, Cost]:
    """Count networks of `NETWORKS`."""
    bar = tqdm(names, desc="counting", leave=False)
    return {name: count_cost(NETWORKS[name].build().to("meta")) for name in bar}


def timed_networks(names: Sequence[str], device: torch.device) -> dict[str, nn.Module]:
    """Build those networks of `NETWORKS` that are timed, in evaluation mode."""
    return {name: NETWORKS[name].build().eval().to(device) for name in names if NETWORKS[name].timed}


class LiveTensors(TorchDispatchMode):
    """Add up the bytes of all tensors that are alive, but for those made before.

    Working memory inside an operation is not seen.

    Attributes:
        current: Bytes alive now.
        peak: The most at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self.current = 0
        self._known: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for tensor in _tensors((args, kwargs)):
            self._known.add(tensor.untyped_storage())
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage not in self._known:
                self._known.add(storage)
                self.current += storage.nbytes()
                weakref.finalize(storage, self._free, storage.nbytes())
        self.peak = max(self.peak, self.current)
        return result

    def _free(self, size: int) -> None:
        self.current -= size


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


@contextmanager
def _peak_memory(network: nn.Module, device: torch.device) -> Iterator[list[int]]:
    """Append the peak in bytes, weights included: on CUDA of the allocator, elsewhere of live tensors."""
    result: list[int] = []
    weights = sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield result
        result.append(torch.cuda.max_memory_allocated(device) - before + weights)
    else:
        with LiveTensors() as live:
            yield result
        result.append(live.peak + weights)


@torch.no_grad()
def measure(
    networks: dict[str, nn.Module],
    costs: dict[str, Cost],
    size: str,
    *,
    repeats: int,
    device: torch.device,
    progress: Callable[[list[str]], Iterable[str]],
) -> None:
    """Measure latency and memory at one size and enter them into the costs.

    Every network runs once for warm-up and memory, then all take turns.

    Args:
        networks: On the device, in evaluation mode.
        costs: By the same names.
        size: ``"WIDTHxHEIGHT"``.
        repeats: Timed runs of each network, at least 1.
        device: The device.
        progress: Progress display over the runs.
    """
    width, height = map(int, size.split("x"))
    images = _images(height, width, device)
    taken: dict[str, list[float]] = {name: [] for name in networks}
    for turn, name in enumerate(progress([*networks] * (1 + repeats))):
        if size in costs[name].failure:
            continue
        try:
            if turn < len(networks):
                with _peak_memory(networks[name], device) as peak:
                    networks[name](*images)
                costs[name].peak[size] = peak[0]
            else:
                taken[name].append(seconds(partial(networks[name], *images), device))
        except (torch.OutOfMemoryError, MemoryError) as error:
            costs[name].failure[size] = "out of memory"
            tqdm.write(f"{name} at {size}: out of memory ({str(error).splitlines()[0]})")
    for name, values in taken.items():
        if values:
            costs[name].latency[size] = float(np.median(values))


def rows(costs: dict[str, Cost], sizes: Sequence[str]) -> list[dict[str, object]]:
    """Arrange the costs as a table: one row for each network; cells that were not measured are empty or say why."""
    table = []
    for name, cost in costs.items():
        network = NETWORKS[name]
        row: dict[str, object] = {
            "network": name,
            "params (M)": f"{cost.params / 1e6:.6f}",
            "thop params (M)": f"{cost.thop_params / 1e6:.6f}",
            "paper params (M)": network.paper_params_m or "",
            "thop (G)": f"{cost.thop / 1e9:.4f}",
            "paper (G)": network.paper_flops_g or "",
            "multiply-adds (G)": f"{cost.multiply_adds / 1e9:.4f}",
        }
        for size in sizes:
            latency, base = cost.latency.get(size), costs.get(REFERENCE, cost).latency.get(size)
            row[f"{size} ms"] = cost.failure.get(size, "") if latency is None else f"{1e3 * latency:.2f}"
            row[f"{size} / {REFERENCE}"] = f"{latency / base:.3f}" if latency and base and REFERENCE in costs else ""
            row[f"{size} MiB"] = f"{cost.peak[size] / 2**20:.0f}" if size in cost.peak else ""
        table.append(row)
    return table


def markdown(table: list[dict[str, object]]) -> str:
    """Write a table in Markdown."""
    return markdown_table(list(table[0]), [row.values() for row in table])


def draw(costs: dict[str, Cost], size: str, path: Path) -> None:
    """Draw latency against parameters.

    Args:
        costs: Only measured ones are drawn.
        size: Of the images.
        path: PNG file.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, cost in costs.items():
        if size in cost.latency:
            point = cost.params / 1e6, 1e3 * cost.latency[size]
            axes.scatter(*point)
            axes.annotate(name, point, xytext=(5, 4), textcoords="offset points", fontsize=9)
    axes.set(xscale="log", yscale="log", xlabel="parameters (M)", ylabel=f"latency at {size} (ms)")
    axes.grid(alpha=0.3)
    axes.margins(0.15)
    save_figure(figure, path, dpi=150)


def write_results(costs: dict[str, Cost], sizes: Sequence[str], title: str, folder: Path) -> None:
    """Write CSV, Markdown and, where something was timed, the plot for the first size."""
    table = rows(costs, sizes)
    write_csv(folder / "efficiency.csv", table)
    write_text(folder / "efficiency.md", f"{title}\n\n{markdown(table)}\n")
    draw(costs, sizes[0], folder / "efficiency.png")


def _size(text: str) -> str:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= 64):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, both at least 64")
    return text


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on. Got {text!r}")
    return int(text)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--sizes", nargs="+", type=_size, default=list(SIZES), help="WIDTHxHEIGHT")
    parser.add_argument("--repeats", type=_positive, default=5, help="timed runs of each network and size")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=_positive, help="CPU threads (default: PyTorch's)")
    parser.add_argument("--out", type=Path, default=Path("runs/efficiency"))
    return parser.parse_args(arguments)


def heading(device: torch.device, repeats: int) -> str:
    """Say what the numbers are of."""
    cuda = device.type == "cuda"
    machine = torch.cuda.get_device_name(device) if cuda else f"CPU, {torch.get_num_threads()} thread(s)"
    memory = "of the CUDA allocator" if cuda else "of live tensors, without operations' working memory"
    precision = "float32 (convolutions in TF32)" if cuda and torch.backends.cudnn.allow_tf32 else "float32"
    return (
        f"torch {torch.__version__}, {machine}, {precision}, batch 1, random weights; ms: median of {repeats}; MiB: "
        f"peak {memory}, weights included; parameters and multiply-adds at {COUNT_SIZE}x{COUNT_SIZE}."
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    args = _parse(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    names, sizes = list(dict.fromkeys(args.networks)), list(dict.fromkeys(args.sizes))
    title = heading(device, args.repeats)
    print(title)
    costs = count_all(names)
    print(f"\n{markdown(rows(costs, ()))}\n")
    timed = timed_networks(names, device)
    for done, size in enumerate(sizes, start=1):
        bar = partial(tqdm, desc=size, leave=False)
        measure(timed, costs, size, repeats=args.repeats, device=device, progress=bar)
        write_results(costs, sizes[:done], title, args.out)
        for name in timed:
            latency = costs[name].latency.get(size)
            result = costs[name].failure[size] if latency is None else f"{1e3 * latency:10.1f} ms"
            print(f"{size:>9} {SIZES.get(size, ''):5} {name:10} {result}")
    print(f"\n{markdown(rows(costs, sizes))}\n\nWritten to {args.out}: efficiency.csv, efficiency.md, efficiency.png")
    return 0


if __name__ == "__main__":
    exit_on_error(main)
