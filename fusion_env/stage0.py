"""Stage 0: the student before the first round, trained with the guidance loss only."""

from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from fusion_env.cache import content_key, load_or_compute
from fusion_env.config import DistillConfig
from fusion_env.crop_bank import CropBank
from fusion_env.data import Progress, no_progress
from fusion_env.degradation import Degradation
from fusion_env.distillation import GUIDANCE_ONLY, Distillation
from fusion_env.errors import ConfigError
from fusion_env.fingerprint import fingerprint
from fusion_env.losses import LossScales
from fusion_env.teachers import Teacher
from fusion_env.teachers.ldfusion import LDFusion
from student import FusionStudent
from student.pruning import prune_ldfusion
from student.weights import load_into, load_state

__all__ = ["initial_student", "stage0_student", "train_stage0"]

_VERSION = 1


def initial_student(init: str, teacher: Teacher, seed: int) -> dict[str, Tensor]:
    """Return the weights that stage 0 starts from.

    Args:
        init: ``"prune"`` (the strongest half of an LDFusion teacher's channels), ``"embedded"`` (the package's own),
            ``"random"``, or a weights file.
        teacher: The teacher, for ``"prune"``.
        seed: Seed of ``"random"``.

    Returns:
        A state dict of `FusionStudent`, on the CPU.

    Raises:
        ConfigError: ``"prune"`` with a teacher of another architecture.
        WeightsError: The file cannot be used.
    """
    if init == "prune":
        if not isinstance(teacher, LDFusion):
            raise ConfigError(
                f"student_init='prune' needs a teacher of the LDFusion architecture, {teacher.name!r} is not one: "
                "use student_init='embedded', 'random' or a weights file"
            )
        with torch.random.fork_rng(devices=[]):  # a new network draws first weights from the CPU's global generator
            return prune_ldfusion(teacher.state_dict()).state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        student = FusionStudent()
    if init == "embedded":
        asset = resources.files("fusion_env") / "assets" / "student.safetensors"
        with resources.as_file(asset) as path:
            load_into(student, load_state(path), "the embedded student")
    elif init != "random":
        load_into(student, load_state(Path(init)), f"student_init={init}")
    return student.state_dict()


def train_stage0(
    config: DistillConfig,
    bank: CropBank,
    features: nn.Module,
    start: dict[str, Tensor],
    iterations: int,
    progress: Progress = no_progress,
) -> tuple[dict[str, Tensor], list[float]]:
    """Train with the guidance loss only for ``config.stage0_rounds`` rounds.

    Returns:
        The student's state dict on the CPU, and the mean of Eq. 1 in each round.

    Raises:
        ConfigError: Training diverged.
    """
    engine = Distillation(
        config.replace(guidance=True),
        bank,
        features,
        start,
        iterations=iterations,
        scales=LossScales(),
        order_seed=config.stage0_seed,
        noise_seed=config.stage0_seed,
    )
    losses = []
    for _ in progress(range(config.stage0_rounds), "stage 0"):
        result = engine.run_round(GUIDANCE_ONLY, Degradation())
        if result.diverged:
            raise ConfigError(
                f"stage 0 diverged in round {len(losses) + 1} at learning_rate={config.learning_rate}: lower it"
            )
        losses.append(result.guidance)
    return engine.state_dict()["student"], losses


def stage0_student(
    config: DistillConfig,
    bank: CropBank,
    bank_key: str,
    features: nn.Module,
    teacher: Teacher,
    iterations: int,
    *,
    folder: Path,
    progress: Progress = no_progress,
) -> dict[str, Tensor]:
    """Return the stage-0 student of a configuration, from the cache where it was trained before.

    Args:
        config: The configuration.
        bank: Training crops.
        bank_key: Content hash of the bank.
        features: Feature network of Eq. 1.
        teacher: For ``student_init="prune"``.
        iterations: Mini-batches in a round.
        folder: Cache folder.
        progress: Progress display.

    Returns:
        A state dict on the CPU.
    """
    start = initial_student(config.student_init, teacher, config.stage0_seed)
    if config.stage0_rounds == 0:
        return {name: tensor.cpu() for name, tensor in start.items()}
    key = content_key(
        {
            "version": _VERSION,
            "start": fingerprint("", start),
            "bank": bank_key,
            "features": features.fingerprint(),
            "iterations": iterations,
            **{
                name: getattr(config, name)
                for name in ("stage0_rounds", "stage0_seed", "batch_size", "learning_rate", "autocast", "channels_last")
            },
        }
    )
    return load_or_compute(
        folder / "stage0" / f"{key}.safetensors",
        lambda: train_stage0(config, bank, features, start, iterations, progress)[0],
    )
