"""Everything about a configuration that no run changes: data, teacher targets, scorer, stage-0 student."""

import logging
import weakref
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fusion_env import metrics, teachers
from fusion_env.action import even_degradation
from fusion_env.cache import cache_folder, load_or_compute
from fusion_env.config import INDICATORS, DistillConfig
from fusion_env.crop_bank import CropPlan, bank_key, build_bank, plan_crops
from fusion_env.data import PairedFolder, PairSource, ProceduralScenes, Progress, Splits, make_splits, no_progress
from fusion_env.distillation import Distillation, epoch_iterations
from fusion_env.errors import ConfigError, MissingRequirementsError
from fusion_env.losses import LossScales
from fusion_env.perception import load_features, load_quality
from fusion_env.report import ReportSplit
from fusion_env.scoring import Scorer
from fusion_env.stage0 import stage0_student

__all__ = ["DistillationTask", "build_task", "open_pairs", "resolve_device"]

_logger = logging.getLogger(__name__)
_tasks: "weakref.WeakValueDictionary[tuple, DistillationTask]" = weakref.WeakValueDictionary()

_SCALE_BATCHES = 4
_SMALLEST_SCALE = 1e-8

_PUBLISHED_DATA = {
    "m3fd": "M3FD (published at github.com/JinyuanLiu-CV/TarDAL)",
    "msrs": "MSRS (published at github.com/Linfeng-Tang/MSRS)",
    "roadscene": "RoadScene (published at github.com/hanna-xu/RoadScene)",
    "tno": "TNO (published at figshare, DOI 10.6084/m9.figshare.1008029)",
}


def resolve_device(setting: str) -> torch.device:
    """Turn the setting `device` into a device.

    Raises:
        ConfigError: The name is invalid, or the device is not there.
    """
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(setting)
    except RuntimeError as error:
        raise ConfigError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N'. Got {setting!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N'. Got {setting!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device={setting!r}: this machine has {torch.cuda.device_count()} CUDA devices; use 'cpu'")
    return device


def open_pairs(config: DistillConfig) -> PairSource:
    """Open the image pairs that a configuration names.

    Raises:
        MissingRequirementsError: `config.data` names a published data set that is not on disk.
        DataError: The folder cannot be used.
    """
    if config.data == "procedural":
        return ProceduralScenes(config.scenes, config.scene_height, config.scene_width, config.data_seed)
    if config.data in _PUBLISHED_DATA and not Path(config.data).is_dir():
        raise MissingRequirementsError(
            f"data={config.data!r}: {_PUBLISHED_DATA[config.data]} is not on disk; "
            "set data=DIR to a folder with ir/ and vi/"
        )
    return PairedFolder(
        config.data, small_images=config.small_images, minimum_size=max(config.crop_size, config.score_size)
    )


def check_requirements(config: DistillConfig, teacher: teachers.Teacher | None = None) -> None:
    """Report everything that a configuration needs and that is not there, in one error, before any work.

    Args:
        config: The configuration.
        teacher: A teacher that takes the place of the configuration's.

    Raises:
        MissingRequirementsError: Names what is missing, where its makers publish it and which setting points to it.
        UnknownNameError: `config.score_metrics` names an unknown metric.
    """
    for name in config.score_metrics:
        if name not in INDICATORS:
            metrics.get(name)
    missing = []
    if config.data in _PUBLISHED_DATA and not Path(config.data).is_dir():
        missing.append(f"{_PUBLISHED_DATA[config.data]}: set data=DIR (with ir/ and vi/)")
    problem = None if teacher else teachers.missing(config.teacher, config.teacher_weights)
    if problem:
        missing.append(problem)
    if missing:
        raise MissingRequirementsError(
            f"missing: {'; '.join(missing)}. The preset 'demo' needs none of this (VGG-19 and CLIP weights, where "
            "chosen, are fetched by torchvision and open_clip or given as perception_weights and iqa_weights)"
        )


class DistillationTask:
    """The fixed part of a distillation, shared by all environments of one configuration in a process.

    Attributes:
        config: The configuration.
        device: Where everything lives.
        source: The image pairs.
        splits: Training, reward and report split.
        teacher: The teacher.
        bank: Training crops with targets.
        scored: Scored crops of the reward split with targets.
        scorer: Scores students on them.
        report: The report split.
        iterations: Mini-batches in a round.
        stage0: State dict of the stage-0 student.
        scales: What the losses are divided by.

    Args:
        config: The configuration.
        source: Its image pairs.
        progress: Progress display for the teacher's pass and stage 0.
        teacher: A teacher that takes the place of the configuration's.

    Raises:
        FusionEnvError: Data, weights or settings cannot be used.
        WeightsError: A weights file cannot be used.
    """

    def __init__(
        self,
        config: DistillConfig,
        source: PairSource,
        progress: Progress = no_progress,
        teacher: teachers.Teacher | None = None,
    ) -> None:
        self.config = config
        self.device = resolve_device(config.device)
        self.source = source
        self.splits: Splits = make_splits(source, config.data_seed)
        with torch.random.fork_rng(devices=[]):  # networks draw first weights from the global generator when built
            self.teacher = (teacher or teachers.load(config.teacher, config.teacher_weights)).to(self.device).eval()
            self.features = load_features(config.perception, config.perception_weights, config.perception_taps)
            self.features.to(self.device)
            self.quality = load_quality(config.iqa, config.iqa_weights, config.iqa_model).to(self.device)
        folder = cache_folder(config.cache_dir)
        train_plan, score_plan = self._plan_crops()
        _verify(source, folder, progress)
        self._check_teacher_images()

        common = {"context": config.teacher_context, "folder": folder, "device": self.device, "progress": progress}
        self.bank = build_bank(source, train_plan, self.teacher, **common)
        self.scored = build_bank(source, score_plan, self.teacher, chroma=config.iqa_colour, **common)
        self.scorer = Scorer(config, self.scored, self.quality)
        self.report = ReportSplit(
            source,
            self.splits.report,
            self.teacher,
            self.quality,
            self.scorer,
            colour=config.iqa_colour,
            folder=folder,
            device=self.device,
            progress=progress,
        )
        self.iterations = config.iterations or epoch_iterations(len(self.splits.train), config.batch_size)
        self.stage0 = stage0_student(
            config,
            self.bank,
            bank_key(source, train_plan, self.teacher, config.teacher_context),
            self.features,
            self.teacher,
            self.iterations,
            folder=folder,
            progress=progress,
        )
        self.scales = self._loss_scales()

    def _plan_crops(self) -> tuple[CropPlan, CropPlan]:
        config = self.config
        train_rng, score_rng = (np.random.default_rng([config.data_seed, stream]) for stream in (0, 1))
        train = plan_crops(
            self.source, self.splits.train, count=config.bank_size, size=config.crop_size, flip=True, rng=train_rng
        )
        scored = plan_crops(
            self.source, self.splits.reward, count=config.score_crops, size=config.score_size, flip=False, rng=score_rng
        )
        return train, scored

    def _check_teacher_images(self) -> None:
        check = getattr(self.teacher, "check", None)
        if check is not None:
            check(self.source.names)

    def _loss_scales(self) -> LossScales:
        """Measure both losses on the stage-0 student, over fixed batches at half of every strength."""
        if self.config.loss_scale == "none":
            return LossScales()
        engine = self.new_run(self.config.data_seed, self.config.data_seed, scales=LossScales())
        guidance, self_learning = engine.loss_values(even_degradation(0.5), _SCALE_BATCHES)
        return LossScales(max(guidance, _SMALLEST_SCALE), max(self_learning, _SMALLEST_SCALE))

    def new_run(
        self, order_seed: int, noise_seed: int, *, scales: LossScales | None = None, config: DistillConfig | None = None
    ) -> Distillation:
        """Return the engine of a fresh run from the stage-0 student.

        Args:
            order_seed: Seed of the order of the training crops.
            noise_seed: Seed of the degradations.
            scales: Loss scales in place of the task's.
            config: Training settings in place of the task's.
        """
        return Distillation(
            config or self.config,
            self.bank,
            self.features,
            self.stage0,
            iterations=self.iterations,
            scales=scales or self.scales,
            order_seed=order_seed,
            noise_seed=noise_seed,
        )

    def describe(self) -> dict[str, str]:
        """Say what is used, for people: nothing is chosen silently."""
        config, splits = self.config, self.splits
        context = "image" if self.teacher.whole_image_only else config.teacher_context
        stage0 = f"{config.student_init}, {config.stage0_rounds} rounds of {self.iterations} iterations"
        return {
            "data": f"{self.source.name}: {len(splits.train)} training, {len(splits.reward)} reward, "
            f"{len(splits.report)} report pairs",
            "teacher": f"{self.teacher.describe()}, targets per {context}",
            "student": f"stage 0: {stage0}",
            "perception": self.features.description,
            "iqa": self.quality.description,
            "device": f"{self.device}, {torch.get_num_threads()} CPU threads",
        }


def _verify(source: PairSource, folder: Path, progress: Progress) -> None:
    """Decode every file of a folder once, so that a broken one is found before training and not after it."""
    if not isinstance(source, PairedFolder):
        return

    def decode_all() -> dict[str, Tensor]:
        source.verify(progress)
        return {"intact": torch.tensor(len(source))}

    load_or_compute(folder / "verified" / f"{source.fingerprint()}.safetensors", decode_all)


def build_task(
    config: DistillConfig, progress: Progress = no_progress, teacher: teachers.Teacher | None = None
) -> DistillationTask:
    """Build the task of a configuration, or return the one that lives in this process already.

    Args:
        config: The configuration; `config.threads` is set for the whole process here.
        progress: Progress display.
        teacher: A teacher made in Python, which takes the place of the configuration's.
    """
    check_requirements(config, teacher)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    source = open_pairs(config)
    key = (config, source.fingerprint(), teacher.fingerprint() if teacher else None)
    task = _tasks.get(key)
    if task is None:
        task = _tasks[key] = DistillationTask(config, source, progress, teacher)
        _logger.info("built task: %s", task.describe())
    return task
