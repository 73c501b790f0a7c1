"""Two images of one shape always come as infrared, visible; public functions take them by keyword only."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from experiments.evaluate import evaluate
from experiments.evaluation.folders import find_images
from experiments.weights.train_teacher import visual_information
from fusion_env import metrics, teachers
from fusion_env.action import LossWeights, even_degradation
from fusion_env.config import preset
from fusion_env.metrics import vifb
from fusion_env.metrics.base import evaluate as evaluate_metrics
from fusion_env.perception.embedded_quality import load_embedded_quality
from fusion_env.scoring import indicator_values
from fusion_env.task import build_task
from fusion_env.teachers.base import check_batch
from fusion_env.teachers.laplacian import fuse_laplacian
from student import FusionStudent
from student.fuse import fuse_files, fuse_images, pair_files
from student.listing import match_sides
from student.network import PairEncoder, check_pair

PACKAGES = ("student", "fusion_env", "agents", "experiments")
SIDES = (("ir", "vis"), ("ir_path", "vis_path"), ("ir_dir", "vis_dir"))
Call = Callable[..., Any]


def public_functions() -> Iterator[tuple[str, Call, tuple[str, str]]]:
    """Find every public function and method that takes an infrared and a visible image, file or folder."""
    for package in PACKAGES:
        for info in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if info.name.endswith("__main__"):
                continue
            module = importlib.import_module(info.name)
            for name, member in vars(module).items():
                if not name.startswith("_") and getattr(member, "__module__", None) == info.name:
                    for label, function in functions_of(name, member):
                        parameters = inspect.signature(function).parameters
                        for sides in SIDES:
                            if parameters.keys() >= set(sides):
                                yield f"{info.name}.{label}", function, sides


def functions_of(name: str, member: object) -> list[tuple[str, Call]]:
    if inspect.isfunction(member):
        return [(name, member)]
    methods = vars(member).items() if inspect.isclass(member) else ()
    return [
        (f"{name}.{key}", value)
        for key, value in methods
        if inspect.isfunction(value) and (key == "__call__" or not key.startswith("_"))
    ]


FUNCTIONS = {label: (function, sides) for label, function, sides in public_functions()}


@pytest.mark.parametrize("label", FUNCTIONS)
def test_infrared_comes_first_and_by_keyword(label: str) -> None:
    function, (ir, vis) = FUNCTIONS[label]
    parameters = inspect.signature(function).parameters
    names = list(parameters)
    assert names.index(vis) == names.index(ir) + 1
    # PyTorch's own tools call the former with positions, people at a prompt the latter.
    if not (label.endswith(".forward") or label == "student.fuse.fuser.fuse"):
        assert {parameters[ir].kind, parameters[vis].kind} == {inspect.Parameter.KEYWORD_ONLY}


def images(channels: int = 1, size: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ir, vis = (torch.rand(1, count, size, size, generator=generator) for count in (1, channels))
    return ir, vis


def randomly(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build().eval()


FUSED = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(2))
TEACHERS = ("dcevo", "kdfuse", "laplacian", "ldfusion", "sage", "tdfusion", "timfusion")


def calls() -> dict[str, Call]:
    """Every public function that computes with two images of equal shape, ready to be called with them."""
    student = randomly(FusionStudent)
    kernel = teachers.load("laplacian").kernel
    quality = load_embedded_quality()
    found: dict[str, Call] = {
        "FusionStudent.forward": student.forward,
        "FusionStudent.forward_raw": student.forward_raw,
        "PairEncoder.forward": randomly(lambda: PairEncoder(2)).forward,
        "fuse_laplacian": lambda **sides: fuse_laplacian(**sides, kernel=kernel),
        "visual_information": lambda **sides: visual_information(FUSED, **sides),
        "metrics.compute": lambda **sides: metrics.compute(["viff"], FUSED, **sides)["viff"],
        "base.evaluate": lambda **sides: evaluate_metrics([metrics.get("viff")], FUSED, **sides)["viff"],
        "vifb.compute": lambda **sides: vifb.compute(["qabf"], FUSED, **sides)["qabf"],
        "indicator_values": lambda **sides: indicator_values(["viff"], FUSED, quality=quality, **sides)["viff"],
    }
    for name in metrics.names():
        metric = metrics.get(name)
        if metric.needs_sources and metric.minimum_size <= 64:
            found[f"metrics.{name}"] = lambda metric=metric, **sides: metric(FUSED, **sides)
    for name in TEACHERS:
        teacher = randomly(teachers.get(name))
        found[f"{name}.fuse_luma"] = teacher.fuse_luma
        for method in ("forward_raw", "forward_signed"):
            if hasattr(teacher, method):
                found[f"{name}.{method}"] = getattr(teacher, method)
    return found


CALLS = calls()
# Their value depends on which source is which: that of everything but a few, and but most metrics.
SIDED = {label for label in CALLS if not label.startswith("metrics.")} | {"metrics.compute", "metrics.viff"}
SIDED -= {"vifb.compute", "visual_information", "dcevo.fuse_luma"}


@torch.inference_mode()
@pytest.mark.parametrize("label", CALLS)
def test_sides_are_told_apart_by_name(label: str) -> None:
    call = CALLS[label]
    ir, vis = images()
    expected = call(ir=ir, vis=vis)
    assert torch.equal(call(vis=vis, ir=ir), expected)
    if label in SIDED:
        assert not torch.equal(call(ir=vis, vis=ir), expected)


@torch.inference_mode()
@pytest.mark.parametrize("label", [label for label in CALLS if label.endswith(".forward")])
def test_positions_are_infrared_and_visible(label: str) -> None:
    ir, vis = images()
    expected = CALLS[label](ir=ir, vis=vis)
    assert torch.equal(CALLS[label](ir, vis), expected)
    assert not torch.equal(CALLS[label](vis, ir), expected)


@torch.inference_mode()
@pytest.mark.parametrize("name", [*TEACHERS, "text_if"])
def test_teachers_take_infrared_and_rgb(name: str) -> None:
    teacher, (ir, vis) = randomly(teachers.get(name)), images(channels=3)
    assert torch.equal(teacher(ir, vis), teacher(vis=vis, ir=ir))
    with pytest.raises(ValueError, match="ir must have shape"):
        teacher(vis, ir)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Infrared, visible and fused folders of one pair, whose sides differ."""
    for side, level in (("ir", 40), ("vis", 200), ("fused", 120)):
        (tmp_path / side).mkdir()
        Image.fromarray(np.full((48, 64), level, np.uint8)).save(tmp_path / side / "1.png")
    return {side: tmp_path / side for side in ("ir", "vis", "fused")}


def test_folders_and_files_are_told_apart_by_name(folders: dict[str, Path], tmp_path: Path) -> None:
    ir, vis = folders["ir"], folders["vis"]
    pairs = pair_files(ir_dir=ir, vis_dir=vis)
    assert pair_files(vis_dir=vis, ir_dir=ir) == pairs
    assert pair_files(ir_dir=vis, vis_dir=ir) != pairs
    files = {"ir_path": ir / "1.png", "vis_path": vis / "1.png"}
    turned, swapped = dict(reversed(files.items())), {"ir_path": files["vis_path"], "vis_path": files["ir_path"]}
    written = []
    for number, sides in enumerate((files, turned, swapped)):
        fuse_files(randomly(FusionStudent), **sides, out_path=tmp_path / f"{number}.png")
        written.append((tmp_path / f"{number}.png").read_bytes())
    assert written[0] == written[1] != written[2]
    methods = {"mine": folders["fused"]}
    assert find_images(methods, vis=vis, ir=ir) == find_images(methods, ir=ir, vis=vis)
    assert find_images(methods, ir=vis, vis=ir) != find_images(methods, ir=ir, vis=vis)
    tables = [
        evaluate(methods, ["sd"], **sides).images.to_dict()
        for sides in ({"ir": ir, "vis": vis}, {"vis": vis, "ir": ir})
    ]
    assert tables[0] == tables[1]
    names = match_sides(ir={"IR_1": 1}, vis={"VIS_1": 2})
    assert names == match_sides(vis={"VIS_1": 2}, ir={"IR_1": 1}) == ({"1": 1}, {"1": 2})


def test_checks_and_batches_are_told_apart_by_name() -> None:
    ir, vis = images()
    check_pair(vis=vis, ir=ir)
    check_batch(vis=vis.repeat(1, 3, 1, 1), ir=ir)
    with pytest.raises(ValueError, match="ir must have shape"):
        check_batch(vis=ir, ir=vis.repeat(1, 3, 1, 1))
    rgb = vis.repeat(1, 3, 1, 1)
    fused = fuse_images(randomly(FusionStudent), ir=ir, vis=rgb)
    assert torch.equal(fuse_images(randomly(FusionStudent), vis=rgb, ir=ir), fused)
    engine = build_task(preset("tiny", stage0_rounds=0)).new_engine(0, 0)
    other = build_task(preset("tiny", stage0_rounds=0)).new_engine(0, 0)
    one = engine.degraded_batch(even_degradation(0.5), ir=ir, vis=vis)
    two = other.degraded_batch(even_degradation(0.5), vis=vis, ir=ir)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    batch = engine.next_batch()._asdict()
    weights = LossWeights(0.5, 0.5)
    turned = dict(reversed(batch.items()))
    losses = [run.losses(weights, even_degradation(0.0), **sides) for run, sides in ((engine, batch), (other, turned))]
    assert torch.equal(torch.stack(losses[0]), torch.stack(losses[1]))
