"""Every row of the stored tables whose metric is implemented: VIFB images and images of official code releases."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_env import metrics

# Relative, against the float64 numpy rows: (float64, float32 and uint8).
TOLERANCES = {
    "ag": (1e-8, 1e-5),
    "ei": (1e-8, 1e-5),
    "sd": (1e-8, 1e-5),
    "en": (1e-8, 1e-5),
    "vif": (1e-5, 5e-4),
    "ssim": (1e-8, 1e-4),
}


def read_gray(path: Path) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(Image.open(path)))
    colour = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)[:3]
    return metrics.gray_levels(colour[None])


def source_paths(folder: Path, pair: str, image: str) -> tuple[Path, Path]:
    if image.startswith("images/official/"):
        return folder / image.replace("_fused", "_ir"), folder / image.replace("_fused", "_vi")
    return folder / "images" / "ir" / f"{pair}.jpg", folder / "images" / "vi" / f"{pair}.jpg"


def read_tables(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Map (pair, image file) to the values of the implemented metrics."""
    values: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for table in ("vifb.csv", "official.csv"):
        with open(folder / table, newline="") as file:
            for row in csv.DictReader(file):
                name = row["metric"].lower()
                if row["image"] and name in TOLERANCES and row["source"] == "float64 numpy, gray convention":
                    values[row["pair"], row["image"]][name] = float(row["value"])
    return values


@pytest.mark.parametrize("convert", ["uint8", "float32", "float64"])
def test_every_row(reference_dir, convert, device):
    folder = reference_dir / "reference" / "metrics"
    tables = read_tables(folder)
    assert len(tables) == 46
    wrong = []
    for (pair, image), expected in tables.items():
        assert expected.keys() == TOLERANCES.keys()
        batch = [read_gray(path).to(device) for path in (folder / image, *source_paths(folder, pair, image))]
        if convert != "uint8":
            batch = [levels.to(getattr(torch, convert)) / 255 for levels in batch]
        for name, value in metrics.compute(expected, *batch).items():
            error = abs(value.item() / expected[name] - 1)
            if not error <= TOLERANCES[name][convert != "float64"]:
                wrong.append(f"{image} {name}: {value.item()}, expected {expected[name]}, error {error:.1e}")
    assert not wrong, "\n".join(wrong)
