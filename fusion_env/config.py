"""The settings, in groups, and the four presets.

For users a configuration is flat: keywords, command line and JSON know no groups. Inside, each part receives the group
that it depends on. Every field carries one sentence that is also its command-line help, and the range that is checked.
"Chosen" in a sentence marks a value that arXiv 2509.02424 leaves open.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fusion_env.data.procedural import CONDITIONS
from fusion_env.errors import ConfigError, unknown_name, unknown_setting
from fusion_env.registry import Registry
from fusion_env.settings import Settings, setting, shown
from student.sixteen_bit import Scale

__all__ = [
    "INDICATORS",
    "MACHINE_ONLY",
    "PRESETS",
    "SMALLEST_SCORED",
    "DataSettings",
    "DistillConfig",
    "MachineSettings",
    "ScoringSettings",
    "TeacherSettings",
    "TrainingSettings",
    "preset",
]

G = TypeVar("G", bound=Settings)

_LARGEST_SEED = 2**63 - 1

INDICATORS = {
    "ag": "average gradient",
    "ei": "edge intensity",
    "vif": "visual information fidelity, sum over both sources",
    "sd": "standard deviation",
    "iqa": "quality score",
}
"""The performance indicators of Eq. 4 and their names in full, in the order of the observation."""

SMALLEST_SCORED = 41
"""Shortest side in pixels that every indicator is defined on."""


@dataclass(frozen=True)
class DataSettings(Settings):
    """Where the images come from, and the crops and mini-batches that are made of them."""

    data: str = setting(
        "procedural",
        "Name (fusion_env.data.sources.names()) or a folder with ir/ and vi/ (optionally train.txt, val.txt).",
    )
    data_root: str | None = setting(
        None, "Where a published data set (m3fd, msrs, tno, ...) lies; none = in a folder of its name."
    )
    scenes: int = setting(50, "Number of procedural scenes; ignored for a folder.", low=3, high=100_000)
    scene_height: int = setting(192, "Height of a procedural scene in pixels.", low=64, high=4096)
    scene_width: int = setting(256, "Width of a procedural scene in pixels.", low=64, high=4096)
    conditions: tuple[str, ...] = setting(
        (), f"Conditions of procedural scenes for training, of {', '.join(CONDITIONS)}; empty = drawn for each."
    )
    test_conditions: tuple[str, ...] = setting((), "Conditions of procedural scenes for reward and report.")
    data_seed: int = setting(0, "Seed of scenes, splits, target bank and scored crops.", low=0, high=_LARGEST_SEED)
    train_limit: int | None = setting(
        None, "Train on at most so many pairs of the training split, a seeded choice made once; none = all.", low=1
    )
    camera: str = setting(
        "none",
        "What student and teacher see of reward and report: the pairs as they are, or through cameras with blur, noise "
        "and wrong exposure; metrics know the pairs as they are.",
        choices=("none", "rough"),
    )
    small_images: str = setting(
        "error", "What to do with images smaller than a crop: refuse or reflect them up.", choices=("error", "reflect")
    )
    bit_depth: int | None = setting(
        None, "Bits that the values of 16-bit files use, 8 to 16; none = what each file says or shows.", low=8, high=16
    )
    stretch: bool = setting(False, "Stretch each 16-bit picture from its 0.1 to its 99.9 percentile.")
    crop_size: int = setting(160, "Side of a training crop in pixels (paper: chosen, 224).", low=32, high=4096)
    batch_size: int = setting(2, "Training crops in a mini-batch.", low=1, high=4096)
    bank_size: int = setting(128, "Training crops drawn once, each with the teacher's target.", low=1)

    @property
    def scale(self) -> Scale:
        """How the values of 16-bit files become levels."""
        return Scale(self.bit_depth, self.stretch)

    def _check_combinations(self) -> None:
        super()._check_combinations()
        self._check_conditions()
        if self.bit_depth is not None and self.stretch:
            raise ConfigError("bit_depth and stretch exclude each other: stretching finds each picture's own range")

    def _check_conditions(self) -> None:
        for name in ("conditions", "test_conditions"):
            given = getattr(self, name)
            for condition in given:
                if condition not in CONDITIONS:
                    raise unknown_name(f"condition in {name}", condition, CONDITIONS)
            if given and self.data != "procedural":
                raise ConfigError(f"{name}={given} are of procedural scenes: leave it out with data={self.data!r}")


@dataclass(frozen=True)
class TeacherSettings(Settings):
    """The teacher, and the student that stage 0 makes with it."""

    teacher: str = setting("embedded", "Name of the teacher; see fusion_env.teachers.names().")
    teacher_weights: str | None = setting(None, "File or folder with the teacher's weights or fused images.")
    teacher_context: str = setting(
        "crop", "Run the teacher on each crop, or cut targets from its whole fused image.", choices=("crop", "image")
    )
    student_init: str = setting(
        "embedded",
        "Student before stage 0: 'prune' (from an LDFusion teacher), 'embedded' (the package's own start), 'random' or "
        "a file.",
    )
    stage0_rounds: int = setting(0, "Rounds of guidance-only training before the first step.", low=0)
    stage0_schedule: str = setting(
        "cosine", "Step size over stage 0: held, or falling to nothing.", choices=("constant", "cosine", "linear")
    )
    stage0_seed: int = setting(0, "Seed of stage 0.", low=0, high=_LARGEST_SEED)

    def _check_combinations(self) -> None:
        super()._check_combinations()
        if self.teacher == "folder" and self.teacher_weights is None:
            raise ConfigError("teacher='folder' needs teacher_weights=DIR with the fused images")


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """What a round does to the student."""

    rounds: int = setting(25, "Rounds (environment steps) in a run.", low=1)
    iterations: int | None = setting(4, "Mini-batches in a round; none = one pass over the training images.", low=1)
    learning_rate: float = setting(0.0002, "Step size of Adam.", low=0.0, high=1e30)
    schedule: str = setting(
        "cosine",
        "Step size over a run: held, or falling to nothing.",
        choices=("constant", "cosine", "linear"),
    )
    update: str = setting(
        "direction",
        "Bring every gradient of Eq. 3 to norm 1, so that its weights decide the direction only, or take it as it is.",
        choices=("direction", "sum"),
    )
    moments: str = setting(
        "stage0", "Start a run with what Adam remembers of stage 0, or afresh.", choices=("stage0", "fresh")
    )
    guidance: bool = setting(True, "Use the guidance loss (Eq. 1); off removes it exactly.")
    self_learning: bool = setting(True, "Use the self-learning loss (Eq. 2); off removes it exactly.")
    self_learning_loss: str = setting("l1", "Distance in Eq. 2.", choices=("l1", "l2"))
    detach_original: bool = setting(True, "Stop the gradient of Eq. 2 at the student's output for clean input.")
    loss_scale: str = setting(
        "gradient",
        "Divide each loss by its gradient's norm at the stage-0 student, or its value there, or use the raw values.",
        choices=("gradient", "stage0", "none"),
    )
    logit_scale: float = setting(3.0, "Factor on the two weight logits before the softmax (chosen).", low=0.1)
    perception: str = setting("embedded", "Feature network of Eq. 1: 'embedded', 'vgg19' or 'vgg19-untrained'.")
    perception_weights: str | None = setting(None, "File with the feature network's weights.")
    perception_taps: str = setting(
        "before_relu", "Where the features of VGG-19 are read.", choices=("before_relu", "after_relu")
    )

    def _check_combinations(self) -> None:
        super()._check_combinations()
        if not (self.guidance or self.self_learning):
            raise ConfigError("guidance=False and self_learning=False leave nothing to train: switch one of them on")


@dataclass(frozen=True)
class ScoringSettings(Settings):
    """What the agent sees and is paid for, and when a run ends."""

    iqa: str = setting("embedded", "Quality score (IQA*): 'embedded', 'clip' or 'clip-untrained'.")
    iqa_model: str | None = setting(None, "open_clip's model behind iqa=clip; none = RN50-quickgelu, as in CLIP-IQA.")
    iqa_weights: str | None = setting(None, "File or published tag with the quality score's weights.")
    iqa_colour: bool = setting(False, "Score quality on fused luma with the visible image's chroma.")
    score_limit: int | None = setting(
        None, "Score at most so many images of the reward split, a seeded choice made once; none = all.", low=1
    )
    score_images: int | None = setting(
        None, "Score so many of these images (or crops), drawn afresh each round; none = all.", low=1
    )
    score_size: int | None = setting(
        None,
        "Side of a scored crop in pixels; none = whole images, as the report has them (crops are another task).",
        low=SMALLEST_SCORED,
        high=4096,
    )
    score_crops: int | None = setting(None, "Fixed crops of the reward split; needs score_size.", low=1)
    score_metrics: tuple[str, ...] = setting(
        ("vif", "iqa", "ssim"), "Metrics whose mean is the score E of Eq. 6 (paper: vif iqa)."
    )
    normalisation: str = setting(
        "teacher",
        "Divide indicators by the teacher's mean, or map given bounds to 0..1.",
        choices=("teacher", "minmax"),
    )
    minmax_bounds: tuple[float, ...] = setting(
        (), "For normalisation=minmax: low and high of AG, EI, VIF, SD, IQA (ten numbers)."
    )
    reward: str = setting("gap", "E(student) - E(teacher), or its change.", choices=("gap", "gap_delta"))
    observation: str = setting(
        "vector",
        "What the agent sees.",
        choices=("vector", "vector+time", "rich", "scalar", "performance", "gap"),
    )
    obs_scale: float = setting(5.0, "Factor on the observed numbers (chosen).", low=1e-6)
    divergence_reward: float = setting(-1.0, "Reward of each round lost by divergence.", high=0.0)
    stop_at_parity: bool = setting(False, "End the run when E reaches the teacher's three rounds running.")

    def _check_combinations(self) -> None:
        super()._check_combinations()
        self._check_bounds()
        if not self.score_metrics:
            raise ConfigError("score_metrics is empty: name at least one metric, such as 'vif'")
        self._check_scored()
        if self.iqa_model is not None and self.iqa == "embedded":
            raise ConfigError(f"iqa_model={self.iqa_model!r} is only used with iqa='clip' or 'clip-untrained'")

    def _check_scored(self) -> None:
        if (self.score_size is None) != (self.score_crops is None):
            raise ConfigError(
                f"score_size={self.score_size} and score_crops={self.score_crops}: crops need both, whole images "
                "neither"
            )
        if self.score_size is not None and self.score_limit is not None:
            raise ConfigError("score_limit is a number of whole images: leave out score_size and score_crops, or it")
        for name in ("score_crops", "score_limit"):
            most = getattr(self, name)
            if self.score_images is not None and most is not None and self.score_images > most:
                raise ConfigError(f"score_images={self.score_images} is more than {name}={most}")

    def _check_bounds(self) -> None:
        bounds = self.minmax_bounds
        if self.normalisation != "minmax":
            if bounds:
                raise ConfigError("minmax_bounds is only used with normalisation='minmax'")
            return
        if len(bounds) != 2 * len(INDICATORS) or any(
            not low < high for low, high in zip(bounds[::2], bounds[1::2], strict=True)
        ):
            raise ConfigError(
                "normalisation='minmax' needs minmax_bounds with ten numbers, low < high for each of "
                f"{', '.join(name.upper() for name in INDICATORS)}. Got {shown(bounds)}"
            )
        foreign = [name for name in self.score_metrics if name not in INDICATORS]
        if foreign:
            raise ConfigError(
                f"normalisation='minmax' has no bounds for score_metrics {foreign}: leave them out, as "
                "score_metrics=('vif', 'iqa') does"
            )


@dataclass(frozen=True)
class MachineSettings(Settings):
    """Where and how everything is computed."""

    device: str = setting("auto", "'auto', 'cpu', 'cuda' or 'cuda:N'.")
    threads: int | None = setting(
        None, "CPU threads of torch, set when the task is built; none = leave.", low=1, high=1024
    )
    autocast: bool = setting(False, "Run the networks in bfloat16 during training.")
    compiled: bool = setting(
        False, "Let torch.compile fuse operations of student and feature network in training; needs a compiler."
    )
    channels_last: bool = setting(
        True, "Keep the student's tensors in channels-last memory order; on a GPU those of all networks."
    )
    capture: str = setting(
        "auto",
        "Replay iterations and scores as CUDA graphs: on a GPU, always (on a CPU a slower stand-in, for tests), on a "
        "GPU iterations only, or never.",
        choices=("auto", "on", "training", "off"),
    )
    jpeg: str = setting(
        "auto",
        "The real JPEG codec on a CPU and the same arithmetic on a GPU, or the codec on both (capture='off' there).",
        choices=("auto", "codec"),
    )
    feature_cache_mib: int = setting(
        512, "Most MiB for the teacher's features of all training crops; if they need more, none are kept.", low=0
    )
    cache_dir: str | None = setting(None, "Cache of teacher targets and stage-0 students; none = user cache.")


MACHINE_ONLY = ("device", "threads", "capture", "compiled", "jpeg", "feature_cache_mib", "cache_dir")
"""Settings of the machine that decide no result beyond rounding: runs that differ in them are of one task."""


@dataclass(frozen=True)
class DistillConfig(MachineSettings, ScoringSettings, TrainingSettings, TeacherSettings, DataSettings):
    """One distillation task. The defaults are the ``demo`` preset.

    A configuration is plain data: it can be compared, hashed, written as JSON (``to_dict``) and read back
    (``from_dict``).

    Raises:
        ConfigError: A value has the wrong type, is out of range, or contradicts another one.
    """

    def _check_combinations(self) -> None:
        super()._check_combinations()
        if self.camera != "none" and self.score_size is not None:
            raise ConfigError(
                f"camera={self.camera!r} is of whole images: leave out score_size={self.score_size} and score_crops"
            )

    def check_scenes(self) -> None:
        """Check that procedural scenes are large enough for the crops, where they are what is opened.

        Raises:
            ConfigError: They are not.
        """
        for name in ("crop_size", "score_size"):
            size = getattr(self, name)
            if size is not None and self.data == "procedural" and size > min(self.scene_height, self.scene_width):
                raise ConfigError(
                    f"{name}={size} is larger than a procedural scene: set scene_height ({self.scene_height}) and "
                    f"scene_width ({self.scene_width}) to at least that"
                )

    def group(self, kind: type[G]) -> G:
        """Return the settings of one group, such as `ScoringSettings`.

        >>> DistillConfig(reward="gap_delta").group(ScoringSettings).reward
        'gap_delta'
        """
        return kind(**{item.name: getattr(self, item.name) for item in dataclasses.fields(kind)})

    def replace(self, **changes: Any) -> "DistillConfig":
        """Return a copy with some fields changed.

        Raises:
            UnknownNameError: A name is not a field; the message suggests the nearest one.
        """
        _check_names(changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values (tuples become lists)."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DistillConfig":
        """Build a configuration from ``to_dict``'s output; missing fields take their defaults.

        Raises:
            UnknownNameError: A name is not a field; the message suggests the nearest one.
            ConfigError: `values` is no mapping from names, or a value cannot be used.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"a configuration must be a mapping from setting to value. Got {shown(values)}")
        _check_names(values)
        return cls(**values)


def _check_names(values: Mapping[str, Any]) -> None:
    known = [item.name for item in dataclasses.fields(DistillConfig)]
    for name in values:
        if not isinstance(name, str):
            raise ConfigError(f"the name of a setting must be a string. Got {shown(name)}")
        if name not in known:
            raise unknown_setting(name, known)


PRESETS: Registry[DistillConfig] = Registry(
    "preset", "a DistillConfig", lambda member: isinstance(member, DistillConfig)
)

# For tests and for debugging an algorithm: a round takes well under a second on one core.
PRESETS.register("tiny")(
    DistillConfig(
        scenes=10,
        scene_height=64,
        scene_width=80,
        crop_size=32,
        batch_size=2,
        bank_size=16,
        learning_rate=0.002,
        teacher="laplacian",
        student_init="random",
        stage0_rounds=20,
        rounds=10,
        iterations=1,
        score_size=48,
        score_crops=4,
    )
)
# For grids of many runs. Stage 0 is short, because it starts from a converged student; each of its seeds gives another.
PRESETS.register("bench")(
    DistillConfig(
        scene_height=160,
        scene_width=192,
        bank_size=192,
        stage0_rounds=50,
        rounds=100,
        iterations=2,
    )
)
# For grids of whole tasks: a run of 24 rounds that go far takes some ten seconds on one core.
PRESETS.register("small")(
    DistillConfig(
        scene_height=96,
        scene_width=128,
        crop_size=96,
        bank_size=96,
        stage0_rounds=0,
        rounds=24,
        iterations=6,
    )
)
PRESETS.register("demo")(DistillConfig())
# The numbers that the paper gives; docs/reference/what-the-paper-leaves-open.md lists those that are chosen.
PRESETS.register("paper")(
    DistillConfig(
        data="m3fd",
        crop_size=224,
        batch_size=24,
        bank_size=11_760,
        learning_rate=0.002,
        teacher="ldfusion",
        student_init="prune",
        stage0_rounds=20,
        stage0_schedule="constant",
        rounds=100,
        iterations=None,
        schedule="constant",
        update="sum",
        loss_scale="none",
        perception="vgg19",
        iqa="clip",
        score_images=24,
        score_metrics=("vif", "iqa"),
    )
)


def preset(name: str, **overrides: Any) -> DistillConfig:
    """Return a preset with some fields overridden.

    Args:
        name: One of ``PRESETS.names()``.
        **overrides: Fields of `DistillConfig`.

    Returns:
        The configuration.

    Raises:
        UnknownNameError: The preset or a field does not exist.
        ConfigError: A value is out of range.

    >>> preset("tiny", rounds=3).rounds
    3
    """
    return PRESETS.get(name).replace(**overrides)
