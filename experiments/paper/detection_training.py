"""One detector: trained from nothing, tested, and shown what it saw. The only place that touches Ultralytics.

A detector is trained in a process of its own: Ultralytics seeds the global random state, sets environment variables and
keeps settings in the user's home, none of which is ours to change.
"""

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml

from experiments.paper.detection_picture import Seen, draw_seen
from experiments.paper.ledger import MEMORY, peak_gib
from experiments.processes import end_with_parent, stop_pool
from fusion_env.errors import FusionEnvError, MissingRequirementsError

__all__ = ["ARCHITECTURE", "MEASURES", "Recipe", "Training", "check_installed", "train_detector"]

ARCHITECTURE = "yolov8n.yaml"
"""The smallest YOLOv8, as a description of its layers: no weights are loaded."""

MEASURES = {"map50": "mAP@0.5", "map75": "mAP@0.75", "map": "mAP@0.5:0.95"}
"""What a detector is judged by, by Ultralytics's names."""

_ENVIRONMENT = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
_REPORTING = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "vscode_msg")
_RATE = 0.002
_SHOWN_IMAGES = 4
_SHOWN_FROM = 0.25
"""Confidence from which a detection is drawn."""


@dataclass(frozen=True)
class Recipe:
    """How a detector is trained, the same for every method.

    Attributes:
        epochs: Passes over the training images.
        image_size: Longer side in pixels to which images are brought.
        batch: Images in a mini-batch, each of which is an update.
    """

    epochs: int
    image_size: int
    batch: int


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        data: ``data.yaml`` of the method's images.
        folder: For all that Ultralytics writes, and ``boxes.png``.
        recipe: How long, and on what size.
        seed: Of weights, order and augmentation.
        device: Such as ``"cpu"``.
        threads: CPU threads.
    """

    data: Path
    folder: Path
    recipe: Recipe
    seed: int
    device: str
    threads: int


def check_installed() -> None:
    """Check that Ultralytics is there.

    Raises:
        MissingRequirementsError: It is not.
    """
    if find_spec("ultralytics") is None:
        raise MissingRequirementsError(
            "object detection needs Ultralytics; in the folder of fusion-env: pip install -e '.[detect]'"
        )


def train_detector(training: Training) -> dict[str, float]:
    """Train a detector and test it as it is after the last epoch, so that no image chooses when to stop.

    Returns:
        `MEASURES` over the test images, and the `MEMORY` of its process.

    Raises:
        FusionEnvError: Its process died.
    """
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_start_process)
    try:
        return pool.submit(_train, training).result()
    except BrokenProcessPool as error:
        raise FusionEnvError(
            f"the process of the detector in {training.folder} died, perhaps for want of memory. The same command goes "
            "on where it was stopped"
        ) from error
    finally:
        stop_pool(pool)  # after an interruption it would train on


def _start_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one then ends this one
    end_with_parent()


def _train(training: Training) -> dict[str, float]:
    folder, recipe = training.folder.absolute(), training.recipe
    os.environ |= {**_ENVIRONMENT, "YOLO_CONFIG_DIR": str(folder)}
    torch.set_num_threads(training.threads)
    from ultralytics import SETTINGS, YOLO

    SETTINGS.update(dict.fromkeys(_REPORTING, False))
    common: dict[str, Any] = {
        "data": str(training.data.absolute()),
        "imgsz": recipe.image_size,
        "batch": recipe.batch,
        "device": training.device,
        "workers": 0,  # in this process: images are small, and their order stays that of the seed
        "project": str(folder),
        "exist_ok": True,
        "plots": False,  # they would fetch a font
        "verbose": False,
    }
    YOLO(ARCHITECTURE, task="detect").train(
        **common,
        name="training",
        epochs=recipe.epochs,
        seed=training.seed,
        pretrained=False,
        amp=False,  # its check would fetch weights
        val=False,
        optimizer="AdamW",
        lr0=_RATE,
        nbs=recipe.batch,
        close_mosaic=max(1, recipe.epochs // 4),
        warmup_epochs=min(3.0, recipe.epochs / 4),
    )
    detector = YOLO(folder / "training" / "weights" / "last.pt")
    box = detector.val(**common, name="test").box
    draw_seen(_seen(detector, training), folder / "boxes.png")
    return {name: float(getattr(box, name)) for name in MEASURES} | {MEMORY: peak_gib()}


def _seen(detector: Any, training: Training) -> list[Seen]:
    """Return some test images as they reach the detector, with their boxes and what it found."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset

    told = yaml.safe_load(training.data.read_text(encoding="utf-8"))
    classes = told["names"]
    settings = get_cfg(overrides={"imgsz": training.recipe.image_size})
    images = build_yolo_dataset(settings, f"{told['path']}/{told['val']}", 1, told, mode="val")
    seen = []
    for index in range(min(_SHOWN_IMAGES, len(images))):
        item = images[index]
        pixels = item["img"]
        height, width = pixels.shape[1:]
        found = detector.predict(pixels[None].float() / 255, conf=_SHOWN_FROM, verbose=False)[0].boxes
        x, y, wide, high = (item["bboxes"] * torch.tensor([width, height, width, height])).unbind(1)
        corners = torch.stack([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], 1)
        labelled = zip(item["cls"][:, 0], corners.tolist(), strict=True)
        detected = zip(found.cls, found.xyxy.tolist(), strict=True)
        boxes = ([(classes[int(kind)], *box) for kind, box in side] for side in (labelled, detected))
        seen.append(Seen(Path(item["im_file"]).stem, pixels.permute(1, 2, 0).numpy(), *boxes))
    return seen
