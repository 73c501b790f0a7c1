import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_env import teachers
from fusion_env.action import LossWeights, even_degradation
from fusion_env.config import DistillConfig, preset
from fusion_env.data import ImagePair, PairSource, write_png
from fusion_env.degradation import DEGRADATIONS, Degradation
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError, DataError, MissingRequirementsError, SnapshotError, UnknownNameError
from fusion_env.report import REPORT_METRICS
from fusion_env.task import build_task, resolve_device
from fusion_env.vector_env import FusionDistillVectorEnv

MakeConfig = Callable[..., DistillConfig]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six noisy pairs of different sizes, one of them grey and one with a 16-bit infrared image."""
    rng = np.random.default_rng(0)
    root = tmp_path / "pairs"
    for i in range(6):
        size = (50 + 8 * i, 90 - 6 * i)
        write_png(root / "ir" / f"p{i}.png", rng.integers(0, 256, size).astype(np.uint8))
        write_png(root / "vi" / f"p{i}.png", rng.integers(0, 256, (*size, 3)).astype(np.uint8))
    return root


def test_one_task_per_configuration_in_a_process(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config())
    assert build_task(tiny_config()) is task
    assert build_task(tiny_config(rounds=3)) is not task


def test_the_real_codec_is_a_setting_and_no_graph_records_it(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="jpeg='codec' works on the host.*set capture='off'"):
        build_task(tiny_config(jpeg="codec", capture="on"))
    operation = dataclasses.replace(DEGRADATIONS["jpeg_quality"], apply=lambda *_: pytest.fail("not the codec"))
    monkeypatch.setitem(DEGRADATIONS, "jpeg_quality", operation)
    engine = build_task(tiny_config(jpeg="codec", stage0_rounds=0)).new_engine(1, 2)
    assert np.isfinite(engine.run_round(LossWeights(0.5, 0.5), Degradation(jpeg_quality=50)).total)


def test_a_folder_of_mixed_sizes(tiny_config: MakeConfig, folder: Path) -> None:
    task = build_task(tiny_config(data=str(folder)))
    assert [len(split) for split in (task.splits.train, task.splits.reward, task.splits.report)] == [4, 1, 1]
    assert "pairs" in task.describe()["data"]
    report = task.report.teacher()
    assert set(REPORT_METRICS) | {"e", "mae", "ssim_teacher"} == set(report)
    assert (report["mae"], report["ssim_teacher"]) == (0.0, 1.0)


@pytest.mark.parametrize("split", range(6))
def test_a_truncated_image_is_found_before_training(tiny_config: MakeConfig, folder: Path, split: int) -> None:
    # Whichever split it falls into: the report split is decoded last, but checked first.
    path = folder / "vi" / f"p{split}.png"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=f"p{split}.png") as error:
        build_task(tiny_config(data=str(folder)))
    assert "\n" not in str(error.value)


def test_images_smaller_than_a_crop(tiny_config: MakeConfig, folder: Path) -> None:
    with pytest.raises(DataError, match=r"p0.*p1.*p5"):
        build_task(tiny_config(data=str(folder), crop_size=64))
    task = build_task(tiny_config(data=str(folder), crop_size=64, small_images="reflect"))
    assert task.bank.ir.shape == (16, 1, 64, 64)


@pytest.fixture
def twelve_bits(folder: Path) -> Path:
    """The same pairs and fused images of them, the infrared and fused ones with 12 bits in files of 16."""
    for path in (folder / "ir").iterdir():
        levels = np.asarray(Image.open(path)).astype(np.uint16)
        (folder / "fused").mkdir(exist_ok=True)
        for side in ("ir", "fused"):
            Image.fromarray(levels << 4).save(folder / side / path.name)
    return folder


def test_sixteen_bit_pictures_are_refused_or_scaled(tiny_config: MakeConfig, twelve_bits: Path) -> None:
    config = tiny_config(data=str(twelve_bits), teacher="folder", teacher_weights=str(twelve_bits / "fused"))
    with pytest.raises(DataError, match=r"6 problems.*p0\.png: 16-bit values span only .* set bit_depth") as error:
        build_task(config)
    assert "\n" not in str(error.value)
    tasks = [build_task(config.replace(**setting)) for setting in ({"bit_depth": 12}, {"stretch": True})]
    for task, told in zip(tasks, ("read as 12-bit values", "from its 0.1 to its 99.9 percentile"), strict=True):
        assert task.bank.ir.max() >= 254
        assert (task.bank.target.float() * 255 - task.bank.ir.float()).abs().max() < 0.1
        assert told in task.describe()["data"]
        assert told in task.describe()["teacher"]
    assert tasks[0].source.fingerprint() != tasks[1].source.fingerprint()
    assert tasks[0].teacher.fingerprint() != tasks[1].teacher.fingerprint()
    assert tasks[0].bank.key != tasks[1].bank.key


@pytest.mark.slow
def test_members_of_an_ensemble_read_with_the_same_scale(tiny_config: MakeConfig, twelve_bits: Path) -> None:
    members = twelve_bits / "teachers.yaml"
    members.write_text("teachers: [{name: folder, weights: fused}, {name: folder, weights: fused}]", encoding="utf-8")
    config = tiny_config(data=str(twelve_bits), teacher="ensemble", teacher_weights=str(members))
    tasks = [build_task(config.replace(bit_depth=bits)) for bits in (12, 13)]
    assert (tasks[0].bank.target.float() * 255 - tasks[0].bank.ir.float()).abs().max() < 0.1
    assert tasks[0].teacher.fingerprint() != tasks[1].teacher.fingerprint()


def test_wrong_extension_is_read_by_content(tiny_config: MakeConfig, folder: Path) -> None:
    picture = Image.open(folder / "vi" / "p3.png")
    picture.save(folder / "vi" / "p3.png", format="JPEG")
    build_task(tiny_config(data=str(folder)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"teacher": "laplacain"}, UnknownNameError, "Did you mean 'laplacian'"),
        ({"perception": "vgg"}, UnknownNameError, "vgg19"),
        ({"iqa": "klip"}, UnknownNameError, "Did you mean 'clip'"),
        ({"data": "nosuch"}, DataError, "nosuch"),
        ({"data": "m3df"}, DataError, "no such folder.* Did you mean 'm3fd'"),
        ({"crop_size": 200}, ConfigError, r"crop_size=200 is larger than a procedural scene: set scene_height \(64\)"),
        ({"score_size": 200}, ConfigError, "score_size=200 is larger than a procedural scene"),
        ({"data": "m3fd"}, MissingRequirementsError, "M3FD"),
        ({"teacher": "ldfusion"}, MissingRequirementsError, "Enc_final.pt"),
        ({"student_init": "prune"}, ConfigError, "LDFusion architecture"),
        ({"device": "gpu"}, ConfigError, "device must be"),
        ({"device": "cuda:99"}, ConfigError, "CUDA devices"),
        ({"perception_taps": "after_relu"}, ValueError, "taps"),
    ],
)
def test_what_cannot_be_used_is_named(tiny_config: MakeConfig, change: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        build_task(tiny_config(**change))
    assert "\n" not in str(caught.value)


def test_resolve_device() -> None:
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type in ("cpu", "cuda")


def test_paper_lists_everything_missing_at_once() -> None:
    with pytest.raises(MissingRequirementsError, match=r"M3FD.*Enc_final"):
        build_task(preset("paper"))


def test_description_names_every_part(tiny_config: MakeConfig) -> None:
    used = build_task(tiny_config()).describe()
    parts = {"data", "scored", "teacher", "student", "perception", "iqa", "device", "memory", "iterations"}
    assert set(used) == parts
    assert "laplacian" in used["teacher"]


def test_loss_scales_are_the_stage_0_losses(tiny_config: MakeConfig) -> None:
    scaled, raw = build_task(tiny_config(loss_scale="stage0")), build_task(tiny_config(loss_scale="none"))
    assert (raw.scales.guidance, raw.scales.self_learning) == (1.0, 1.0)
    assert 0 < scaled.scales.guidance != 1.0
    assert 0 < scaled.scales.self_learning < 1.0


def test_loss_scales_are_the_gradients_at_stage_0(tiny_config: MakeConfig) -> None:
    # Equal weights mean equal norms there: over fresh batches, one half of their sum is guidance.
    engine = build_task(tiny_config()).new_engine(1, 2)
    engine.learning_rate = 0.0
    half = LossWeights(0.5, 0.5), even_degradation(0.5)
    assert np.mean([engine.run_round(*half).guidance_share for _ in range(8)]) == pytest.approx(0.5, abs=0.1)


def test_a_teacher_made_in_python(tiny_config: MakeConfig) -> None:
    config = tiny_config()
    teacher = teachers.from_callable(lambda ir, vis: (ir + vis.mean(1, keepdim=True)) / 2, name="mean", fingerprint="1")
    task = build_task(config, teacher=teacher)
    assert task.describe()["teacher"].startswith("mean (weights given in Python")
    assert task is not build_task(config)
    assert FusionDistillEnv("tiny", teacher=teacher, cache_dir=config.cache_dir).task.teacher is teacher
    env = FusionDistillEnv("tiny", teacher="laplacian", cache_dir=config.cache_dir)
    assert env.task.describe()["teacher"].startswith("laplacian (no weights")


class Noise(PairSource):
    """Image pairs made in Python."""

    name = "noise"
    names = tuple(f"n{index}" for index in range(5))
    sizes = ((100, 120),) * 5

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> ImagePair:
        rng = np.random.default_rng([self.seed, index])
        ir, vis = (rng.integers(0, 256, (channels, 100, 120), np.uint8) for channels in (1, 3))
        return ImagePair(self.names[index], torch.from_numpy(ir), torch.from_numpy(vis))

    def fingerprint(self) -> str:
        return f"noise-{self.seed}"


def test_a_source_made_in_python(tiny_config: MakeConfig) -> None:
    config, source = tiny_config(), Noise(0)
    task = build_task(config, source=source)
    assert task.source is source
    assert task.describe()["data"] == "noise, given in Python (noise-0): 3 training, 1 reward, 1 report pairs"
    assert build_task(config, source=Noise(0)) is task
    other = build_task(config, source=Noise(1))
    assert not torch.equal(other.bank.ir, task.bank.ir)
    assert len({other.bank.key, task.bank.key, build_task(config).bank.key}) == 3


def test_a_configuration_does_not_pass_an_object_off_as_a_name(tiny_config: MakeConfig) -> None:
    config = build_task(tiny_config(), source=Noise(0), teacher=teachers.load("laplacian")).config
    assert config.data == "noise, given in Python (noise-0)"
    assert config.teacher.startswith("laplacian, given in Python (")
    with pytest.raises(DataError, match="noise, given in Python"):
        build_task(DistillConfig.from_dict({**config.to_dict(), "teacher": "laplacian"}))
    with pytest.raises(UnknownNameError, match="laplacian, given in Python"):
        build_task(DistillConfig.from_dict(config.to_dict()))


@pytest.mark.slow
def test_environments_on_a_source_made_in_python(tiny_cache: Path) -> None:
    settings: dict[str, Any] = {"cache_dir": str(tiny_cache), "threads": 1}  # several students have one each
    settings["crop_size"] = 96  # larger than the preset's scenes
    env = FusionDistillEnv("tiny", source=Noise(0), **settings)
    env.reset(seed=0)
    vector = FusionDistillVectorEnv(2, "tiny", source=Noise(0), **settings)
    assert all(getattr(single.unwrapped, "task", None) is env.task for single in vector.envs)
    with pytest.raises(SnapshotError, match="noise-0"):
        FusionDistillEnv("tiny", source=Noise(1), **settings).load_state_dict(env.state_dict())


def test_an_unknown_score_metric_is_found_before_any_work(tiny_config: MakeConfig) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'viff'"):
        build_task(tiny_config(score_metrics=("vifff",), teacher="folder", teacher_weights="/no/such"))


@pytest.mark.slow
def test_crops_of_a_source_may_be_larger_than_the_scenes_of_the_preset(tiny_config: MakeConfig) -> None:
    assert build_task(tiny_config(crop_size=96), source=Noise(0)).bank.ir.shape[-1] == 96


def test_a_description_says_nothing_of_files_where_there_are_none(tiny_config: MakeConfig) -> None:
    assert "16-bit" not in build_task(tiny_config(bit_depth=12), source=Noise(0)).describe()["data"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": "m3fd"}, "source must be a fusion_env.data.PairSource.* the setting data"),
        ({"source": Noise}, "source must be a fusion_env.data.PairSource"),
        ({"teacher": "laplacian"}, "teacher must be a fusion_env.teachers.Teacher.* a name is the setting teacher"),
        ({"teacher": lambda ir, vis: ir}, "fusion_env.teachers.from_callable makes one"),
        ({"teacher": teachers.LaplacianTeacher}, "teacher must be a fusion_env.teachers.Teacher"),
    ],
)
def test_what_is_neither_a_source_nor_a_teacher(tiny_config: MakeConfig, given: dict, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        build_task(tiny_config(), **given)


def test_weights_for_a_teacher_made_in_python(tiny_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="teacher_weights='/nope' has no effect on a teacher made in Python"):
        build_task(tiny_config(teacher_weights="/nope"), teacher=teachers.load("laplacian"))
    with pytest.raises(ConfigError, match="teacher_weights='/nope' has no effect"):
        FusionDistillEnv("tiny", teacher=teachers.load("laplacian"), teacher_weights="/nope")


def test_an_empty_teacher_is_a_teacher(tiny_config: MakeConfig) -> None:
    class Empty(teachers.LaplacianTeacher):
        name = "empty"

        def __len__(self) -> int:
            return 0

    task = build_task(tiny_config(teacher="ldfusion"), teacher=Empty())  # LDFusion's weights are not there
    assert task.teacher.name == "empty"


def test_a_source_that_contradicts_itself(tiny_config: MakeConfig) -> None:
    source = Noise(2)
    source.sizes = ((100, 120),) * 2 + ((120, 100),) * 3
    with pytest.raises(DataError, match=r"pair 'n.' of 'noise': sizes says \[120, 100\].*load returns \[100, 120\]"):
        build_task(tiny_config(), source=source)
    source.names = ("a", "a", "b", "c", "d")
    with pytest.raises(DataError, match="2 pairs are called 'a'"):
        build_task(tiny_config(), source=source)
