"""Every row of the stored tables whose metric is implemented: VIFB images and images of official code releases."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_env import metrics
from tests.fusion_env.metrics.named import named

# Relative, against the float64 numpy rows: (float64, float32 and uint8).
TOLERANCES = {
    "ag": (1e-8, 1e-6),
    "ag_fwd": (1e-8, 1e-6),
    "ei": (1e-8, 1e-6),
    "ei_zero": (1e-8, 1e-6),
    "sf": (1e-8, 1e-6),
    "sf_u8": (1e-8, 1e-6),
    "sd": (1e-8, 1e-6),
    "en": (1e-8, 1e-6),
    "mi": (1e-8, 1e-6),
    "qabf": (1e-7, 1e-6),
    "scd": (1e-8, 1e-6),
    "ssim": (1e-8, 1e-4),
    "vif": (1e-5, 1e-5),
    "viff": (1e-3, 1e-3),
}
OUR_NAMES = {"ag_fwd": "ag_forward", "sf_u8": "sf_uint8"}
VIFB_TOLERANCE = 6e-5


def read_planes(path: Path) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(Image.open(path)))
    return (pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)[:3])[None]


def read_gray(path: Path) -> torch.Tensor:
    return metrics.gray_levels(read_planes(path))


def source_paths(folder: Path, pair: str, image: str) -> tuple[Path, Path]:
    if image.startswith("images/official/"):
        return folder / image.replace("_fused", "_ir"), folder / image.replace("_fused", "_vi")
    return folder / "images" / "ir" / f"{pair}.jpg", folder / "images" / "vi" / f"{pair}.jpg"


def read_tables(folder: Path, prefix: str, source: str) -> dict[tuple[str, str], dict[str, float]]:
    """Map (pair, image file) to the values of one source by the tables' names, lower case, without the prefix."""
    values: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for table in ("vifb.csv", "official.csv"):
        with open(folder / table, newline="") as file:
            for row in csv.DictReader(file):
                if row["image"] and row["metric"].startswith(prefix) and row["source"] == source:
                    name = row["metric"].removeprefix(prefix).lower()
                    values[row["pair"], row["image"]][name] = float(row["value"])
    return values


@pytest.mark.parametrize("convert", [pytest.param("uint8", marks=pytest.mark.slow), "float64"])
def test_every_row(reference_dir, convert, device):
    folder = reference_dir / "reference" / "metrics"
    tables = read_tables(folder, "", "float64 numpy, gray convention")
    assert len(tables) == 46
    wrong = []
    for (pair, image), expected in list(tables.items())[:: 1 if convert == "uint8" else 6]:
        assert expected.keys() == TOLERANCES.keys()
        batch = [read_gray(path).to(device) for path in (folder / image, *source_paths(folder, pair, image))]
        if convert != "uint8":
            batch = [levels.to(getattr(torch, convert)) / 255 for levels in batch]
        values = metrics.compute([OUR_NAMES.get(name, name) for name in expected], **named(batch))
        for name, value in zip(expected, values.values(), strict=True):
            error = abs(value.item() / expected[name] - 1)
            if not error <= TOLERANCES[name][convert != "float64"]:
                wrong.append(f"{image} {name}: {value.item()}, expected {expected[name]}, error {error:.1e}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_published_rows_of_vifb(reference_dir, device):
    folder = reference_dir / "reference" / "metrics"
    tables = read_tables(folder, "VIFB_", "VIFB published (5 significant digits)")
    assert len(tables) == 40
    wrong = []
    for (pair, image), expected in tables.items():
        assert expected.keys() == {"ag", "ei", "sf", "sd", "en", "mi", "qabf", "ssim"}
        batch = [read_planes(path).to(device) for path in (folder / image, *source_paths(folder, pair, image))]
        for name, value in metrics.compute(expected, **named(batch), convention="vifb").items():
            error = abs(value.item() / expected[name] - 1)
            if not error <= VIFB_TOLERANCE:
                wrong.append(f"{image} {name}: {value.item()}, expected {expected[name]}, error {error:.1e}")
    assert not wrong, "\n".join(wrong)
