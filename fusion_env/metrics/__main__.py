"""Print the metrics of one fused image.

Usage: ``python -m fusion_env.metrics FUSED IR VIS [--metrics NAME ...] [--json] [--clip-weights FILE]``
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fusion_env import metrics
from fusion_env.data.images import read_infrared, read_luma
from fusion_env.errors import DataError, FusionEnvError
from fusion_env.metrics import Metric
from student.console import accept_any_console, printable
from student.sixteen_bit import Scale, add_scale_options
from student.weights import WeightsError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; None takes the shell's.

    Returns:
        0, or 2 if an image, a name or the weights cannot be used; stderr says why.
    """
    accept_any_console()
    args = _parser().parse_args(arguments)
    try:
        fused, ir, vis = _read(args.fused, args.ir, args.vis, Scale(args.bit_depth, args.stretch))
        chosen, absent = _choose(args, min(fused.shape[-2:]))
        values = {name: float(value) for name, value in metrics.compute(chosen, fused, ir=ir, vis=vis).items()}
    except (FusionEnvError, WeightsError) as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        return 2
    if args.json:
        # JSON has no number for NaN and infinity.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        sys.stdout.write(json.dumps(finite, indent=2) + "\n")
        sys.stderr.writelines(f"{name}: {reason}\n" for name, reason in absent.items())
    else:
        sys.stdout.writelines(_table(chosen, values, absent))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fusion_env.metrics",
        description="Print the metrics of one fused image, read as 8-bit levels, colour as luma.",
    )
    parser.add_argument("fused", type=Path, metavar="FUSED", help="fused image, grey or colour")
    parser.add_argument("ir", type=Path, metavar="IR", help="infrared image of the same size")
    parser.add_argument("vis", type=Path, metavar="VIS", help="visible image of the same size")
    text = f"of {', '.join(metrics.names())} (default: all that can be computed)"
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help=text)
    parser.add_argument("--json", action="store_true", help="print one JSON object; NaN and infinity become null")
    add_scale_options(parser)
    text = "weights of the whole CLIP model, or one of open_clip's tags; adds clip_iqa"
    parser.add_argument("--clip-weights", metavar="FILE", help=text)
    text = "open_clip's name of that model (default: %(default)s)"
    parser.add_argument("--clip-model", default="RN50-quickgelu", metavar="NAME", help=text)
    return parser


def _read(fused: Path, ir: Path, vis: Path, scale: Scale) -> tuple[Tensor, Tensor, Tensor]:
    """Return fused, infrared and visible luma, uint8 [1, 1, H, W]."""
    levels = [read_luma(fused, scale), read_infrared(ir, scale), read_luma(vis, scale)]
    if len({plane.shape for plane in levels}) > 1:
        sizes = zip((fused, ir, vis), (plane.shape for plane in levels), strict=True)
        listed = ", ".join(f"{path} {height} x {width}" for path, (height, width) in sizes)
        raise DataError(f"the three images must have one size. Got (height x width) {listed}")
    first, second, third = (torch.from_numpy(plane)[None, None] for plane in levels)
    return first, second, third


def _choose(args: argparse.Namespace, smallest_side: int) -> tuple[list[Metric], dict[str, str]]:
    """Return the metrics to compute, and where all are wanted, why some are not among them.

    A metric that was asked for by name is never dropped: `metrics.compute` refuses it with the reason.
    """
    chosen = {name: metrics.get(name) for name in args.metrics or metrics.names()}
    if args.clip_weights is not None:
        chosen["clip_iqa"] = _clip_metric(args.clip_weights, args.clip_model)
    if args.metrics is not None:
        return [*chosen.values()], {}
    absent = {
        name: f"needs sides of {metric.minimum_size} pixels or more"
        for name, metric in chosen.items()
        if smallest_side < metric.minimum_size
    }
    if args.clip_weights is None:
        absent["clip_iqa"] = "needs a network: give --clip-weights FILE (weights of CLIP)"
    return [metric for name, metric in chosen.items() if name not in absent], absent


def _clip_metric(weights: str, model: str) -> Metric:
    from fusion_env.perception.clip_iqa import load_clip_iqa  # open_clip takes seconds to import

    scorer = load_clip_iqa(weights, model)
    metric = metrics.quality_metric("clip_iqa", scorer)
    return replace(metric, minimum_size=scorer.smallest_side, summary=f"{scorer.description}, on the luma")


def _table(chosen: Sequence[Metric], values: dict[str, float], absent: dict[str, str]) -> list[str]:
    width = max(len(name) for name in (*values, *absent))
    lines = [
        f"{metric.name:{width}} {values[metric.name]:12.6f}  {'' if metric.higher_is_better else 'lower is better: '}"
        f"{metric.summary}\n"
        for metric in chosen
    ]
    return lines + [f"{name:{width}} not computed  {reason}\n" for name, reason in absent.items()]


if __name__ == "__main__":
    sys.exit(main())
