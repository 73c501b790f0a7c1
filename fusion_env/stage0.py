"""Stage 0: the student before the first round and its optimiser's moments, trained with the guidance loss only."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fusion_env.cache import arithmetic, content_key, load_or_compute
from fusion_env.config import MACHINE_ONLY, TeacherSettings
from fusion_env.crop_bank import CropBank
from fusion_env.data import Progress, no_progress
from fusion_env.degradation import Degradation
from fusion_env.distillation import GUIDANCE_ONLY, Distillation, EngineSettings
from fusion_env.errors import ConfigError
from fusion_env.fingerprint import fingerprint
from fusion_env.losses import LossScales
from fusion_env.packaged import packaged
from fusion_env.perception import FrozenNetwork
from fusion_env.teachers import Teacher
from fusion_env.teachers.ldfusion import LDFusionNetwork
from fusion_env.updates import Moments, Schedule
from student import FusionStudent
from student.numerics import own_numerics
from student.pruning import prune_ldfusion
from student.weights import load_into, load_state

__all__ = ["NOT_IN_KEY", "Stage0", "Stage0Settings", "initial_student", "stage0_key", "stage0_start", "train_stage0"]

_VERSION = 4
_MOMENT_BATCHES = 8

NOT_IN_KEY = frozenset(
    {
        # In the bank's key, which the key holds.
        *("data", "data_root", "scenes", "scene_height", "scene_width", "data_seed"),
        *("conditions", "test_conditions", "train_limit", "small_images", "bit_depth", "stretch"),
        "camera",  # of what is scored
        *("crop_size", "bank_size"),
        *("teacher", "teacher_weights", "teacher_context"),
        # Decide what stage 0 starts from and the network of its loss, whose tensors are hashed.
        *("student_init", "perception", "perception_weights", "perception_taps"),
        # Of later rounds: stage 0 has rounds of its own, no action, no self-learning and plain losses. `iterations` may
        # say "one pass", so that the key holds the number that this means.
        *("rounds", "iterations", "logit_scale", "loss_scale"),
        *("guidance", "self_learning", "self_learning_loss", "detach_original"),
        *("schedule", "moments"),
        # What they do to the numbers is in `arithmetic`.
        *MACHINE_ONLY,
    }
)
"""Settings that are left out of the key of a stage-0 student."""


@dataclass(frozen=True)
class Stage0Settings(EngineSettings, TeacherSettings):
    """What stage 0 depends on, beside its bank."""


@dataclass(frozen=True)
class Stage0:
    """What every run starts from.

    Attributes:
        student: State dict of the student, on the CPU.
        moments: What Adam remembers of the guidance loss's gradients there.
    """

    student: dict[str, Tensor]
    moments: Moments

    def to_tensors(self) -> dict[str, Tensor]:
        """Return everything in one dictionary, for a file."""
        parts = {"student": self.student, "first": self.moments.first, "second": self.moments.second}
        tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
        return tensors | {"steps": torch.tensor(self.moments.steps)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Stage0":
        """Take apart what `to_tensors` put together."""
        student, first, second = (
            {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}
            for part in ("student", "first", "second")
        )
        return cls(student, Moments(int(tensors["steps"]), first, second))


@own_numerics()
def initial_student(init: str, teacher: Teacher, seed: int) -> dict[str, Tensor]:
    """Return the weights that stage 0 starts from.

    Args:
        init: ``"prune"`` (the strongest half of an LDFusion teacher's channels), ``"embedded"`` (the start that
            comes with the package), ``"random"``, or a weights file.
        teacher: The teacher, for ``"prune"``.
        seed: Seed of ``"random"``.

    Returns:
        A state dict of `FusionStudent`, on the CPU.

    Raises:
        ConfigError: ``"prune"`` with a teacher of another architecture.
        MissingRequirementsError: The package was installed without its assets.
        WeightsError: The file cannot be used.
    """
    if init == "prune":
        if not isinstance(teacher, LDFusionNetwork):
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
        with packaged("start.safetensors") as path:
            load_into(student, load_state(path), str(path))
    elif init != "random":
        load_into(student, load_state(Path(init)), f"student_init={init}")
    return student.state_dict()


def train_stage0(
    settings: Stage0Settings,
    bank: CropBank,
    features: nn.Module,
    start: dict[str, Tensor],
    iterations: int,
    progress: Progress = no_progress,
) -> tuple[Stage0, list[float]]:
    """Train with the guidance loss only for ``settings.stage0_rounds`` rounds.

    Without any, the student stays as it is, and the moments are those of some mini-batches at step size 0.

    Returns:
        The student with its moments, and the mean of Eq. 1 in each round.

    Raises:
        ConfigError: Training diverged, or changed nothing.
    """
    if settings.stage0_rounds == 0:
        return Stage0(start, _moments_at(start, settings, bank, features)), []
    engine = _engine(settings, bank, features, start, iterations)
    losses: list[float] = []
    for _ in progress(range(settings.stage0_rounds), "stage 0"):
        result = engine.run_round(GUIDANCE_ONLY, Degradation())
        if result.diverged:
            raise ConfigError(
                f"stage 0 diverged in round {len(losses) + 1} at learning_rate={settings.learning_rate}: lower it"
            )
        losses.append(result.guidance)
    student = engine.state_dict()["student"]
    if all(torch.equal(student[name], tensor.cpu()) for name, tensor in start.items()):
        raise ConfigError(
            f"stage 0 left every weight as it was in {len(losses)} rounds at learning_rate={settings.learning_rate}: "
            "raise it, or set stage0_rounds=0"
        )
    return Stage0(student, engine.moments()), losses


def _moments_at(start: dict[str, Tensor], settings: Stage0Settings, bank: CropBank, features: nn.Module) -> Moments:
    engine = _engine(dataclasses.replace(settings, learning_rate=0.0), bank, features, start, _MOMENT_BATCHES)
    if engine.run_round(GUIDANCE_ONLY, Degradation()).diverged:
        raise ConfigError(f"student_init={settings.student_init!r} has a guidance loss that is not finite: use another")
    return engine.moments()


def _engine(
    settings: Stage0Settings, bank: CropBank, features: nn.Module, start: dict[str, Tensor], iterations: int
) -> Distillation:
    return Distillation(
        settings,
        bank,
        features,
        start,
        iterations=iterations,
        scales=LossScales(),
        schedule=Schedule(settings.stage0_schedule, max(settings.stage0_rounds, 1)),
        order_seed=settings.stage0_seed,
        noise_seed=settings.stage0_seed,
    )


@own_numerics()
def stage0_start(
    settings: Stage0Settings,
    bank: CropBank,
    features: FrozenNetwork,
    start: dict[str, Tensor],
    iterations: int,
    *,
    folder: Path,
    progress: Progress = no_progress,
) -> Stage0:
    """Return the stage-0 student and its moments, from the cache where they were made before.

    Args:
        settings: How to train it.
        bank: Training crops.
        features: Feature network of Eq. 1.
        start: Weights to start from.
        iterations: Mini-batches in a round.
        folder: Cache folder.
        progress: Progress display.
    """
    key = stage0_key(settings, bank, features, start, iterations)
    tensors = load_or_compute(
        folder / "stage0" / f"{key}.safetensors",
        lambda: train_stage0(settings, bank, features, start, iterations, progress)[0].to_tensors(),
    )
    return Stage0.from_tensors(tensors)


def stage0_key(
    settings: Stage0Settings, bank: CropBank, features: FrozenNetwork, start: dict[str, Tensor], iterations: int
) -> str:
    """Hash everything that the stage-0 student and its moments depend on."""
    return content_key(
        {
            "version": _VERSION,
            "settings": settings.without(NOT_IN_KEY),
            "bank": bank.key,
            "features": features.fingerprint(),
            "start": fingerprint("", start),
            "iterations": iterations,
            "arithmetic": arithmetic(bank.device),
        }
    )
