"""Compare the fusion metrics with published values, original MATLAB code and double-precision references.

    python experiments/measurements/metric_accuracy.py --out docs/results/metric-accuracy.md

computes every metric of every stored image from uint8, float32 and float64 input, writes the worst and the median
relative error, and fails (exit status 1) where a limit is broken. Rows without an image file are left out and counted.
"""

import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from experiments.command_line import exit_on_error, make_parser
from experiments.output import markdown_table, print_or_write
from fusion_env import metrics
from fusion_env.errors import DataError

__all__ = ["limit", "main", "measure", "read_rows"]

TABLES = ("vifb.csv", "official.csv")
DTYPES = ("uint8", "float32", "float64")
NAMES = {
    "AG": "ag",
    "AG_fwd": "ag_forward",
    "EI": "ei",
    "EI_zero": "ei_zero",
    "SF": "sf",
    "SF_u8": "sf_uint8",
    "SD": "sd",
    "EN": "en",
    "MI": "mi",
    "Qabf": "qabf",
    "SCD": "scd",
    "SSIM": "ssim",
    "VIF": "vif",
    "VIFF": "viff",
}
VIFB_PREFIX = "VIFB_"
PUBLISHED = "VIFB published"
LOOSER = {"mi": 1e-4, "qabf": 1e-4, "scd": 1e-4, "ssim": 1e-4, "vif": 1e-4, "viff": 1e-3}
# What the worst row may be off: half a unit of the fifth digit for published values; see the README of the tables.
DEFAULT_LIMIT, PUBLISHED_LIMIT = 1e-5, 6e-5


def limit(metric: str, source: str) -> float:
    """Return the largest allowed relative error.

    Args:
        metric: Name in `fusion_env.metrics`.
        source: Where the reference value comes from.
    """
    if source.startswith(PUBLISHED):
        return PUBLISHED_LIMIT
    return LOOSER.get(metric, DEFAULT_LIMIT)


def read_rows(folder: Path) -> pd.DataFrame:
    """Read the reference tables.

    Args:
        folder: Folder with the tables and ``images/``.

    Returns:
        Columns ``pair``, ``image`` (file relative to the folder; empty where only the value is known), ``metric`` (name
        in `fusion_env.metrics`), ``convention`` (``"gray"`` or ``"vifb"``), ``value`` and ``source`` (in words).

    Raises:
        DataError: If a table is missing or names a metric that is not known here.
    """
    tables = []
    for path in (folder / name for name in TABLES):
        if not path.is_file():
            raise DataError(f"{path} is missing: give the folder of the reference tables with --reference")
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        names = table["metric"].str.removeprefix(VIFB_PREFIX)
        unknown = table["metric"][~names.isin(NAMES)]
        if len(unknown):
            raise DataError(f"{path} has the unknown metric {unknown.iloc[0]!r}. Known: {', '.join(NAMES)}")
        convention = np.where(names == table["metric"], "gray", "vifb")
        value = table["value"].astype(float)
        tables.append(table.assign(metric=names.map(NAMES), convention=convention, value=value))
    return pd.concat(tables, ignore_index=True)


def measure(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Compute the relative error of every row that has an image.

    Args:
        rows: Reference values; see `read_rows`.
        folder: Folder of the images.

    Returns:
        The rows with an image, with one more column of errors for each of `DTYPES`.

    Raises:
        DataError: If an image is missing.
    """
    rows = rows[rows["image"] != ""].copy()
    for (pair, image, convention), wanted in rows.groupby(["pair", "image", "convention"], sort=False):
        planes = [_read(path) for path in _paths(folder, pair, image)]
        if convention == "gray":
            planes = [metrics.gray_levels(plane) for plane in planes]
        names = list(wanted["metric"].unique())
        for dtype in DTYPES:
            given = planes if dtype == "uint8" else [plane.to(getattr(torch, dtype)) / 255 for plane in planes]
            fused, ir, vis = given
            values = metrics.compute(names, fused, ir=ir, vis=vis, convention=convention)
            found = wanted["metric"].map(lambda name, values=values: values[name].item())
            rows.loc[wanted.index, dtype] = (found / wanted["value"] - 1).abs()
    return rows


def _paths(folder: Path, pair: str, image: str) -> tuple[Path, Path, Path]:
    """Return the files of the fused image and its sources: infrared, visible."""
    fused = folder / image
    if image.startswith("images/official/"):
        return fused, folder / image.replace("_fused", "_ir"), folder / image.replace("_fused", "_vi")
    return fused, folder / "images" / "ir" / f"{pair}.jpg", folder / "images" / "vi" / f"{pair}.jpg"


@lru_cache(maxsize=8)
def _read(path: Path) -> Tensor:
    """Read an image as uint8 ``[1, C, H, W]`` with the one or three planes that it has."""
    if not path.is_file():
        raise DataError(f"{path} is missing: the reference folder is incomplete")
    with Image.open(path) as image:
        pixels = np.array(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())[None]


def markdown(errors: pd.DataFrame, left_out: int) -> str:
    """Write the errors as a page with one table for each convention."""
    lines = [
        "# Accuracy of the metrics",
        "",
        "Relative errors, worst / median over the images, by dtype of the input. Generated by",
        "`python experiments/measurements/metric_accuracy.py --out docs/results/metric-accuracy.md`, "
        "which fails where a limit is broken.",
        f"{left_out} rows whose images are not at hand are left out.",
    ]
    for convention, title in (("gray", "Grey levels"), ("vifb", 'Colour planes: `convention="vifb"`')):
        rows = []
        for (metric, source), own in errors[errors["convention"] == convention].groupby(["metric", "source"]):
            cells = (f"{max(own[dtype]):.1e} / {np.median(own[dtype]):.1e}" for dtype in DTYPES)
            rows.append([metric, source, len(own), *cells, f"{limit(metric, source):.0e}"])
        table = markdown_table(["metric", "reference", "images", *DTYPES, "limit"], rows)
        lines += ["", f"## {title}", "", table]
    lines += ["", "The published values of VIFB have five digits, so errors up to 5e-5 are theirs.", ""]
    return "\n".join(lines)


def broken(errors: pd.DataFrame) -> list[str]:
    """Say which limits do not hold."""
    return [
        f"{metric} from {dtype} against {source}: {max(own[dtype]):.1e}, limit {limit(metric, source):.0e}"
        for (_, metric, source), own in errors.groupby(["convention", "metric", "source"])
        for dtype in DTYPES
        if not (own[dtype] <= limit(metric, source)).all()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a limit is broken."""
    parser = make_parser(__doc__)
    default = os.environ.get("FUSION_ENV_REFERENCE", Path(__file__).resolve().parents[3] / "shared")
    text = "folder with reference/metrics/, or that folder itself (default: FUSION_ENV_REFERENCE, or ../shared)"
    parser.add_argument("--reference", type=Path, default=Path(default), metavar="DIR", help=text)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the page there instead of printing it")
    args = parser.parse_args(arguments)
    inner = args.reference / "reference" / "metrics"
    folder = inner if inner.is_dir() else args.reference
    rows = read_rows(folder)
    errors = measure(rows, folder)
    page = markdown(errors, left_out=sum(rows["image"] == ""))
    print_or_write(page, args.out)
    problems = broken(errors)
    for problem in problems:
        print(f"limit broken: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    exit_on_error(main)
