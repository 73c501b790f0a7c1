"""Time of one image through the student: every way to run it that is installed, in turns, one table.

    python experiments/measurements/inference_speed.py --threads 1 --out runs/inference

With one thread on a CPU, its own seconds are counted, which other programs do not lengthen.

LDFusion as PyTorch runs it is the yardstick, the student in float64 the truth. ``student.fuse`` uses the first of the
student's rows that is marked: channels-last, on the CPU in the layers of `student.on_cpu`. Ways that need onnxruntime
or OpenVINO are left out, and named, where those are not installed.
"""

import argparse
import copy
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.measurements.timing import seconds
from experiments.output import markdown_table, write_csv, write_text
from fusion_env.captured import WARM_UPS, CudaGraphs, Replayed
from fusion_env.data import ProceduralScenes, rgb_to_luma
from fusion_env.task import resolve_device
from fusion_env.teachers.ldfusion import EmbeddedLDFusion
from student.export import export_onnx
from student.layout import arranged
from student.network import FusionStudent
from student.on_cpu import quickest
from student.origin import open_student

__all__ = ["CHANNELS_LAST", "HALF", "TEACHER_HALF", "YARDSTICK", "image_size", "main", "measure"]

Way = Callable[[Tensor, Tensor], Tensor]
"""Maps infrared and visible RGB, [1, C, H, W] on the CPU or the device, to fused luma."""

YARDSTICK = "LDFusion, eager"
CHANNELS_LAST = "channels-last (student.fuse)"
HALF = "channels-last, float16 (student.fuse, half)"
TEACHER_HALF = "LDFusion, channels-last, float16"


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    args = _parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    width, height = args.size
    rows, absent = measure(device, args.size, args.repeats, args.threads)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {args.threads} thread(s)"
    counted = ", in ms of the CPU" if _alone(device, args.threads) else ""
    heading = (
        f"{width}x{height}, batch 1, {machine}, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}; median of "
        f"{args.repeats} turns{counted}."
    )
    notes = [f"Not installed, so not measured: {', '.join(absent)}."] if absent else []
    text = "\n\n".join([heading, markdown_table(list(rows[0]), [row.values() for row in rows], decimals=2), *notes])
    print(f"\n{text}")
    write_csv(args.out / "inference.csv", rows)
    write_text(args.out / "inference.md", f"{text}\n")
    return 0


def measure(
    device: torch.device, size: tuple[int, int], repeats: int, threads: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Time all ways in turns.

    Args:
        device: Where.
        size: Width and height.
        repeats: Timed turns.
        threads: CPU threads of those that do not ask PyTorch.

    Returns:
        A row for each way, and the packages that others need.
    """
    width, height = size
    pair = ProceduralScenes(1, height, width, 0).load(0)
    ir, vis = pair.ir[None].float() / 255, pair.vis[None].float() / 255
    student, _ = open_student(None)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        ways, absent = _ways(student, device, threads, Path(folder))
        truth = copy.deepcopy(student).double()(ir=ir.double(), vis=rgb_to_luma(vis).double())
        images = ir.to(device), vis.to(device)
        for way in [*ways.values()] * (WARM_UPS + 1 if device.type == "cuda" else 0):  # the last one captures
            way(*images)
        results = {name: way(*images).cpu() for name, way in ways.items()}
        taken: dict[str, list[float]] = {name: [] for name in ways}
        clock = time.process_time if _alone(device, threads) else time.perf_counter
        for name in progress_bar([*ways] * repeats, f"{width}x{height}"):
            taken[name].append(seconds(partial(ways[name], *images), device, clock))
    medians = {name: float(np.median(values)) for name, values in taken.items()}
    rows = [
        {
            "way": name,
            "ms": 1e3 * median,
            "times LDFusion": medians[YARDSTICK] / median,
            "largest error": "" if name == YARDSTICK else f"{_error(name, results, truth):.1e}",
        }
        for name, median in medians.items()
    ]
    return rows, absent


def _alone(device: torch.device, threads: int) -> bool:
    return device.type == "cpu" and threads == 1


def _error(name: str, results: dict[str, Tensor], truth: Tensor) -> float:
    """Return the largest difference: of the student's ways from float64, of LDFusion's from LDFusion, eager."""
    expected = results[YARDSTICK] if name.startswith("LDFusion") else truth
    return float((results[name] - expected).abs().max())


def _ways(student: FusionStudent, device: torch.device, threads: int, folder: Path) -> tuple[dict[str, Way], list[str]]:
    """Return the ways to run the student by name, and the packages that others need."""
    last = copy.deepcopy(student).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    teacher = EmbeddedLDFusion.from_weights(None).eval().to(device)
    ways = {YARDSTICK: _eager(teacher), "eager": _on_luma(student, device)}
    if device.type == "cuda":
        ways[CHANNELS_LAST] = _on_luma(last, device)
        ways[HALF] = _on_luma(copy.deepcopy(last).half(), device)
        compiled = copy.deepcopy(last).half()
        compiled.compile(dynamic=True)
        ways["compiled, float16 (student.fuse, half, compiled)"] = _on_luma(compiled, device)
        for name in (CHANNELS_LAST, HALF):
            ways[f"{name}, captured"] = _captured(ways[name], device)
        ordered = arranged(copy.deepcopy(teacher), device)
        ways["LDFusion, channels-last"] = lambda ir, vis: ordered(ir, vis)
        ways[TEACHER_HALF] = _autocast(ways["LDFusion, channels-last"])
        return ways, []
    ways["channels-last"] = _on_luma(last, device)
    ways["LDFusion, layers for a CPU (as a teacher)"] = lambda ir, vis: teacher(ir, vis)
    ways["layers for a CPU (student.fuse)"] = _on_luma(last, device, quickest(last))
    absent = [name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name) is None]
    file = folder / "student.onnx"
    if len(absent) < 2:
        export_onnx(student, file)
    if "onnxruntime" not in absent:
        ways["onnxruntime"] = _onnxruntime(file, threads)
    if "openvino" not in absent:
        ways["OpenVINO, float32"] = _openvino(file, threads)
    return ways, absent


def _on_luma(network: nn.Module, device: torch.device, call: Callable[..., Tensor] | None = None) -> Way:
    network = network.to(device)
    kind = next(network.parameters()).dtype
    fuse = call or network

    def run(ir: Tensor, vis: Tensor) -> Tensor:
        return fuse(ir=ir.to(kind), vis=rgb_to_luma(vis).to(kind)).float()

    return run


def _eager(teacher: EmbeddedLDFusion) -> Way:
    """Run the network layer by layer, as it does outside inference mode."""

    def run(ir: Tensor, vis: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            return teacher(ir, vis)

    return run


def _autocast(way: Way) -> Way:
    def run(ir: Tensor, vis: Tensor) -> Tensor:
        with torch.autocast(ir.device.type, torch.float16):
            return way(ir, vis).float()

    return run


def _captured(way: Way, device: torch.device) -> Way:
    """Return the same as a graph for images of one size."""
    replayed: Replayed[None] = Replayed(CudaGraphs(device, torch.Generator(device)))
    places: list[Tensor] = []

    def work(_: None) -> None:
        ir, vis, fused = places
        fused.copy_(way(ir, vis))

    def run(ir: Tensor, vis: Tensor) -> Tensor:
        if not places:
            places.extend([ir.clone(), vis.clone(), torch.empty_like(ir)])
        places[0].copy_(ir)
        places[1].copy_(vis)
        replayed(work, None, None)
        return places[2].clone()

    return run


def _onnxruntime(file: Path, threads: int) -> Way:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda ir, vis: torch.from_numpy(session.run(None, {"ir": ir.numpy(), "vis": vis.numpy()})[0])


def _openvino(file: Path, threads: int) -> Way:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = openvino.Core().compile_model(str(file), "CPU", settings).create_infer_request()
    return lambda ir, vis: torch.from_numpy(request.infer([ir.numpy(), vis.numpy()])[0])


def image_size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= 64):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, both at least 64")
    return int(width), int(height)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    parser.add_argument("--size", type=image_size, default=(1024, 768), help="WIDTHxHEIGHT (default: 1024x768)")
    parser.add_argument("--repeats", type=int, default=7, help="timed turns (default: 7)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--out", type=Path, default=Path("runs/inference"))
    return parser


if __name__ == "__main__":
    exit_on_error(main)
