"""Everything about a configuration that no run changes: data, teacher targets, scorer, stage-0 student."""

import logging
import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion_env import metrics, teachers
from fusion_env.action import even_degradation
from fusion_env.cache import arithmetic, cache_folder, content_key, load_or_compute
from fusion_env.captured import captures, describe_capture
from fusion_env.config import INDICATORS, MACHINE_ONLY, SMALLEST_SCORED, DistillConfig, ScoringSettings, TeacherSettings
from fusion_env.crop_bank import CropBank, CropPlan, build_bank, plan_crops
from fusion_env.data import (
    PairSource,
    Progress,
    SourceSettings,
    Splits,
    check_source,
    make_splits,
    missing_source,
    no_progress,
    open_source,
)
from fusion_env.distillation import Distillation, EngineSettings, epoch_iterations
from fusion_env.errors import ConfigError, MissingRequirementsError, SnapshotError
from fusion_env.fingerprint import fingerprint
from fusion_env.identity import Fingerprints, absolute_paths, differences, file_stamps
from fusion_env.losses import LossScales
from fusion_env.observation import Observer
from fusion_env.perception import FrozenNetwork, load_features, load_quality
from fusion_env.places import Places, choose_places
from fusion_env.report import ReportSplit
from fusion_env.scoring import Scorer
from fusion_env.settings import shown
from fusion_env.stage0 import Stage0Settings, initial_student, stage0_start
from fusion_env.stored_images import StoredImages, stored_bytes
from fusion_env.target_features import TargetFeatures
from fusion_env.threads import set_threads
from fusion_env.updates import Moments, Schedule
from fusion_env.whole_images import WholeImages
from student.layout import arranged
from student.numerics import own_numerics

__all__ = [
    "DistillationTask",
    "build_task",
    "check_requirements",
    "content_fingerprints",
    "given_in_python",
    "open_pairs",
    "resolve_device",
    "task_identity",
]

_logger = logging.getLogger(__name__)
_tasks: "weakref.WeakValueDictionary[tuple, DistillationTask]" = weakref.WeakValueDictionary()

# Random streams of the data seed.
_TRAINING, _SCORING = 0, 1
_SCALE_BATCHES = 4
_SMALLEST_SCALE = 1e-8

# What a task keeps in memory.
_CROPS, _SCORED = "training crops", "scored images"


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
    settings = SourceSettings(
        scenes=config.scenes,
        scene_height=config.scene_height,
        scene_width=config.scene_width,
        seed=config.data_seed,
        small_images=config.small_images,
        minimum_size=max(config.crop_size, config.score_size or SMALLEST_SCORED),
        scale=config.scale,
        root=config.data_root,
        conditions=config.conditions,
        test_conditions=config.test_conditions,
    )
    return open_source(config.data, settings)


def given_in_python(source: PairSource | None, teacher: teachers.Teacher | None) -> dict[str, Any]:
    """Return what a configuration says where objects take the place of names.

    It cannot be built again from such a text, and two objects with different results have different ones.

    Raises:
        TypeError: One is something else.
        DataError: The source contradicts itself.
    """
    if not isinstance(source, PairSource | None):
        raise TypeError(
            f"source must be a fusion_env.data.PairSource made in Python. Got {shown(source)}; "
            "a folder or the name of a data source is the setting data."
        )
    if not isinstance(teacher, teachers.Teacher | None):
        raise TypeError(
            f"teacher must be a fusion_env.teachers.Teacher made in Python. Got {shown(teacher)}; "
            "fusion_env.teachers.from_callable makes one of a function or module, a name is the setting teacher."
        )
    settings: dict[str, Any] = {}
    if source is not None:
        check_source(source)
        settings["data"] = _given(source.name, source.fingerprint())
    if teacher is not None:
        settings |= {"teacher": _given(teacher.name, teacher.fingerprint()), "teacher_weights": None}
    return settings


def _given(name: str, fingerprint: str) -> str:
    return f"{name}, given in Python ({fingerprint})"


def check_requirements(
    config: DistillConfig, *, source: PairSource | None = None, teacher: teachers.Teacher | None = None
) -> None:
    """Report everything that a configuration needs and that is not there, in one error, before any work.

    Args:
        config: The configuration.
        source: Pairs that take the place of the configuration's.
        teacher: A teacher that takes the place of the configuration's.

    Raises:
        MissingRequirementsError: Names what is missing, where its makers publish it and which setting points to it.
        UnknownNameError: `config.score_metrics` names an unknown metric.
        ConfigError: Weights are named for a teacher made in Python, a crop is larger than a procedural scene, or graphs
            are to be captured of what works on the host.
    """
    if config.jpeg == "codec" and captures(config.capture, resolve_device(config.device)):
        raise ConfigError("jpeg='codec' works on the host, where no graph can record it: set capture='off'")
    if teacher is not None and config.teacher_weights is not None:
        raise ConfigError(
            f"teacher_weights={config.teacher_weights!r} has no effect on a teacher made in Python: leave it unset"
        )
    if source is None:
        config.check_scenes()
    for name in config.score_metrics:
        if name not in INDICATORS:
            metrics.get(name)
    missing = []
    absent = None if source is not None else missing_source(config.data, config.data_root)
    if absent:
        missing.append(f"{absent}: set data=DIR (with ir/ and vi/) or data_root=DIR (as published)")
    problem = None if teacher is not None else teachers.missing(config.teacher, config.teacher_weights)
    if problem:
        missing.append(problem.removesuffix("."))
    if missing:
        raise MissingRequirementsError(
            f"missing: {'; '.join(missing)}. The preset 'demo' needs none of this (VGG-19 and CLIP weights, where "
            "chosen, are fetched by torchvision and open_clip or given as perception_weights and iqa_weights)"
        )


@dataclass(frozen=True, eq=False)
class DistillationTask:
    """The fixed part of a distillation, shared by all environments of one configuration in a process.

    Attributes:
        config: The configuration.
        device: Where everything lives.
        source: The image pairs.
        splits: Training, reward and report split.
        teacher: The teacher.
        features: Feature network of Eq. 1.
        quality: Quality score (IQA*).
        bank: Training crops with targets.
        targets: The teacher's features of the crops.
        scored: What is scored of the reward split, with the teacher's results: images of one size together.
        places: Where these are kept.
        scorer: Scores students on them.
        observer: Makes observations of the scores.
        report: The report split.
        iterations: Mini-batches in a round.
        stage0: State dict of the stage-0 student.
        moments: What Adam remembers of stage 0.
        scales: What the losses are divided by.
        fingerprints: Hashes of the content of data and networks, by which a run, a benchmark and a snapshot know them.
    """

    config: DistillConfig
    device: torch.device
    source: PairSource
    splits: Splits
    teacher: teachers.Teacher
    features: FrozenNetwork
    quality: FrozenNetwork
    bank: CropBank
    targets: TargetFeatures
    scored: list[StoredImages]
    places: Places
    scorer: Scorer
    observer: Observer
    report: ReportSplit
    iterations: int
    stage0: dict[str, Tensor]
    moments: Moments
    scales: LossScales
    fingerprints: Fingerprints

    def new_engine(self, order_seed: int, noise_seed: int, *, scales: LossScales | None = None) -> Distillation:
        """Return the engine of a fresh run from the stage-0 student.

        Args:
            order_seed: Seed of the order of the training crops.
            noise_seed: Seed of the degradations.
            scales: Loss scales in place of the task's.
        """
        scales = scales or self.scales
        return Distillation(
            self.config.group(EngineSettings),
            self.bank,
            self.features,
            self.stage0,
            iterations=self.iterations,
            scales=scales,
            schedule=Schedule(self.config.schedule, self.config.rounds),
            moments=self._first_moments(scales),
            targets=self.targets,
            order_seed=order_seed,
            noise_seed=noise_seed,
        )

    def _first_moments(self, scales: LossScales) -> Moments | None:
        if self.config.moments == "fresh":
            return None
        # Those of stage 0 are of the raw loss; at norm 1 it does not matter what a loss is divided by.
        return self.moments.scaled(1 / scales.guidance) if self.config.update == "sum" else self.moments

    def __deepcopy__(self, memo: dict[int, Any]) -> "DistillationTask":
        """Return the task itself: nothing changes it."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle how to build the task, not its data; only what was made in Python goes along."""
        given_data = given_in_python(self.source, None)["data"]
        given_teacher = _given(self.teacher.name, self.fingerprints["teacher"])
        source = self.source if self.config.data == given_data else None
        teacher = self.teacher if self.config.teacher == given_teacher else None
        return _build_again, (absolute_paths(self.config), source, teacher, self.fingerprints)

    def describe(self) -> dict[str, str]:
        """Say what is used, for people: nothing is chosen silently."""
        config, splits = self.config, self.splits
        given = given_in_python(self.source, None)["data"]
        scale = "" if config.data == given else config.scale.describe()  # of files
        limit = ["train_limit"] if config.train_limit == len(splits.train) else []
        chosen = _in_brackets([*limit, *config.conditions])
        tested = _in_brackets(config.test_conditions)
        context = "image" if self.teacher.whole_image_only else config.teacher_context
        stage0 = f"{config.student_init}, {config.stage0_rounds} rounds of {self.iterations} iterations"
        return {
            "data": f"{given if config.data == given else self.source.name}: {len(splits.train)} training{chosen}, "
            f"{len(splits.reward)} reward, {len(splits.report)} report pairs{tested}{scale and ', ' + scale}",
            "scored": self._describe_scored(),
            "teacher": f"{self.teacher.describe()}, targets per {context}",
            "student": f"stage 0: {stage0}",
            "perception": self.features.description,
            "iqa": self.quality.description,
            "device": f"{self.device}, {torch.get_num_threads()} CPU threads",
            "memory": f"{self.places.describe()}; {self.targets.describe()}",
            "iterations": describe_capture(config.capture, self.device),
        }

    def _describe_scored(self) -> str:
        """Say what the reward is made of."""
        config, count = self.config, sum(map(len, self.scored))
        what = "whole images" if config.score_size is None else f"crops of {config.score_size}"
        drawn = f"{config.score_images} of " if config.score_images is not None else ""
        seen = f", through {config.camera} cameras" if config.camera != "none" else ""
        return f"{drawn}{count} {what} of the reward split{seen}"


def _in_brackets(words: Sequence[str]) -> str:
    return f" ({', '.join(words)})" if words else ""


@own_numerics()
def build_task(
    config: DistillConfig,
    progress: Progress = no_progress,
    *,
    source: PairSource | None = None,
    teacher: teachers.Teacher | None = None,
) -> DistillationTask:
    """Build the task of a configuration, or return the one that lives in this process already.

    Args:
        config: The configuration; `config.threads` is set for the whole process here.
        progress: Progress display for data, teacher and stage 0.
        source: Image pairs made in Python, which take the place of the configuration's; the task's `config` says so.
        teacher: A teacher made in Python, likewise.

    Raises:
        FusionEnvError: Data, weights or settings cannot be used.
        WeightsError: A weights file cannot be used.
    """
    check_requirements(config, source=source, teacher=teacher)
    config = config.replace(**given_in_python(source, teacher))
    if config.threads is not None:
        set_threads(config.threads)
    if source is None:
        source = open_pairs(config)
    # All that a task depends on: its files may have been written anew, or another number of threads set.
    last_digits = arithmetic(resolve_device(config.device))
    key = (absolute_paths(config), source.fingerprint(), file_stamps(config), *last_digits.values())
    task = _tasks.get(key)
    if task is None:
        task = _tasks[key] = _assemble(config, source, teacher, progress)
        _logger.info("built task: %s", task.describe())
    return task


def _build_again(
    config: DistillConfig, source: PairSource | None, teacher: teachers.Teacher | None, fingerprints: Fingerprints
) -> DistillationTask:
    task = build_task(config, source=source, teacher=teacher)
    differing = differences((config, fingerprints), (config, task.fingerprints))
    if differing:
        raise SnapshotError(f"the pickled task has other data or networks than those here: {differing}")
    return task


def _assemble(
    config: DistillConfig, source: PairSource, teacher: teachers.Teacher | None, progress: Progress
) -> DistillationTask:
    """Take the steps from a configuration to a task: data, networks, banks, scorer, stage 0."""
    device, folder = resolve_device(config.device), cache_folder(config.cache_dir)
    splits = make_splits(source, config.data_seed, config.train_limit)
    teacher, features, quality = _load_networks(config, teacher, device)
    if config.camera != "none" and teacher.whole_image_only:
        raise ConfigError(
            f"camera={config.camera!r} needs a teacher that fuses what the cameras see: {teacher.name!r} has results "
            "of the pairs as they are, and no others"
        )
    train_plan, score_plan = _plan_crops(config, source, splits)
    _verify(source, folder, progress)
    teacher.check(source.names)
    whole = WholeImages(source, teacher, folder, device, None if config.camera == "none" else config.data_seed)
    whole_scored = _scored_indices(config, splits)
    places = _choose_places(config, source, device, whole_scored)
    new_bank = partial(build_bank, source, folder=folder, device=device, progress=progress)
    context = config.group(TeacherSettings)
    bank = new_bank(train_plan, teacher, context, streamed=places.kinds[_CROPS].streamed)
    streamed = places.kinds[_SCORED].streamed
    if score_plan is None:
        scored = whole.by_size(whole_scored, streamed=streamed, progress=progress)
    else:
        scored = [new_bank(score_plan, teacher, context, chroma=config.iqa_colour, streamed=streamed)]
    scorer = Scorer(config.group(ScoringSettings), scored, quality, progress)
    report = ReportSplit(whole, splits.report, quality, scorer, config.iqa_colour, progress)
    iterations = config.iterations or epoch_iterations(len(splits.train), config.batch_size)
    start = initial_student(config.student_init, teacher, config.stage0_seed)
    settings = config.group(Stage0Settings)
    stage0 = stage0_start(settings, bank, features, start, iterations, folder=folder, progress=progress)
    limit = config.feature_cache_mib
    targets = TargetFeatures(bank, features, autocast=config.autocast, limit_mib=limit)
    engine = partial(
        Distillation,
        config.group(EngineSettings),
        bank,
        features,
        stage0.student,
        iterations=iterations,
        scales=LossScales(),
        schedule=Schedule(),
        order_seed=config.data_seed,
        noise_seed=config.data_seed,
    )
    first_scores, _, _ = scorer.score(engine().student, progress=progress)
    stage0_losses = _scales("stage0" if config.observation == "rich" else "none", engine())
    return DistillationTask(
        config=config,
        device=device,
        source=source,
        splits=splits,
        teacher=teacher,
        features=features,
        quality=quality,
        bank=bank,
        targets=targets,
        scored=scored,
        places=places,
        scorer=scorer,
        observer=Observer(config.group(ScoringSettings), scorer, first_scores, stage0_losses),
        report=report,
        iterations=iterations,
        stage0=stage0.student,
        moments=stage0.moments,
        scales=_scales(config.loss_scale, engine()),
        fingerprints={
            "data": source.fingerprint(),
            "teacher": teacher.fingerprint(),
            "perception": features.fingerprint(),
            "iqa": quality.fingerprint(),
            "student_init": fingerprint("", start),
        },
    )


def content_fingerprints(config: DistillConfig) -> Fingerprints:
    """Return the fingerprints of a configuration's data and teacher, without building its task.

    Raises:
        FusionEnvError: Data or weights cannot be used.
        WeightsError: A weights file cannot be used.
    """
    with torch.random.fork_rng(devices=[]):
        teacher = teachers.load(config.teacher, config.teacher_weights)
    return {"data": open_pairs(config).fingerprint(), "teacher": teacher.fingerprint()}


def task_identity(config: DistillConfig, fingerprints: Fingerprints) -> str:
    """Return what tells a task from all others: its settings but for those of the machine, its data and networks.

    Args:
        config: The configuration.
        fingerprints: What `content_fingerprints` returns for it.
    """
    settings = {name: value for name, value in config.to_dict().items() if name not in MACHINE_ONLY}
    return content_key({"settings": settings, "fingerprints": fingerprints})[:12]


def _load_networks(
    config: DistillConfig, teacher: teachers.Teacher | None, device: torch.device
) -> tuple[teachers.Teacher, FrozenNetwork, FrozenNetwork]:
    with torch.random.fork_rng(devices=[]):  # networks draw first weights from the global generator when built
        if teacher is None:
            teacher = teachers.load(config.teacher, config.teacher_weights)
            teacher.set_scale(config.scale)
        features = load_features(config.perception, config.perception_weights, config.perception_taps)
        quality = load_quality(config.iqa, config.iqa_weights, config.iqa_model)
    if not config.channels_last:
        return teacher.to(device).eval(), features.to(device), quality.to(device)
    teacher = arranged(teacher, device) if teacher.channels_last else teacher.to(device)
    return teacher.eval(), arranged(features, device), arranged(quality, device)


def _plan_crops(config: DistillConfig, source: PairSource, splits: Splits) -> tuple[CropPlan, CropPlan | None]:
    """Plan the training crops and, where crops are scored, those."""
    rng = np.random.default_rng([config.data_seed, _TRAINING])
    train = plan_crops(source, splits.train, count=config.bank_size, size=config.crop_size, flip=True, rng=rng)
    if config.score_size is None or config.score_crops is None:
        return train, None
    rng = np.random.default_rng([config.data_seed, _SCORING])
    count, size = config.score_crops, config.score_size
    return train, plan_crops(source, splits.reward, count=count, size=size, flip=False, rng=rng)


def _scored_indices(config: DistillConfig, splits: Splits) -> list[int]:
    """Choose the whole images that are scored."""
    if config.score_limit is None or config.score_limit >= len(splits.reward):
        return list(splits.reward)
    rng = np.random.default_rng([config.data_seed, _SCORING])
    return sorted(rng.choice(splits.reward, config.score_limit, replace=False).tolist())


def _choose_places(
    config: DistillConfig, source: PairSource, device: torch.device, whole_scored: Sequence[int]
) -> Places:
    """Decide where crops and scored images are kept, and say so before any work where the device has no room."""
    crops = stored_bytes(config.bank_size, config.crop_size**2, chroma=False)
    if config.score_size is not None and config.score_crops is not None:
        scored = stored_bytes(config.score_crops, config.score_size**2, chroma=config.iqa_colour)
    else:
        pixels = sum(math.prod(source.sizes[index]) for index in whole_scored)
        scored = stored_bytes(1, pixels, chroma=True, clean=config.camera != "none")
    places = choose_places(device, {_CROPS: crops, _SCORED: scored})
    _logger.log(logging.WARNING if places.any_streamed else logging.INFO, "memory: %s", places.describe())
    return places


def _verify(source: PairSource, folder: Path, progress: Progress) -> None:
    """Let a source look for damage once, so that a broken file is found before training and not after it."""

    def decode_all() -> dict[str, Tensor]:
        source.verify(progress)
        return {"intact": torch.tensor(len(source))}

    load_or_compute(folder / "verified" / f"{source.fingerprint()}.safetensors", decode_all)


def _scales(kind: str, engine: Distillation) -> LossScales:
    """Measure both losses on the stage-0 student, or their gradients, over fixed batches at half of every strength."""
    if kind == "none":
        return LossScales()
    measure = engine.gradient_norms if kind == "gradient" else engine.loss_values
    guidance, self_learning = measure(even_degradation(0.5), _SCALE_BATCHES)
    return LossScales(max(guidance, _SMALLEST_SCALE), max(self_learning, _SMALLEST_SCALE))
