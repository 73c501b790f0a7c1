"""Settings of the environment and the four presets.

Every field carries one sentence that is also its command-line help, and the range that is checked when a configuration
is made. "Chosen" in a sentence marks a value that arXiv 2509.02424 leaves open.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from fusion_env.errors import ConfigError, unknown_name

__all__ = ["INDICATORS", "PRESETS", "DistillConfig", "preset", "type_name"]

_LARGEST_SEED = 2**63 - 1
_LONGEST_SHOWN = 200

INDICATORS = {
    "ag": "average gradient",
    "ei": "edge intensity",
    "vif": "visual information fidelity, sum over both sources",
    "sd": "standard deviation",
    "iqa": "quality score",
}
"""The performance indicators of Eq. 4 and their names in full, in the order of the observation."""


def _setting(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    return field(default=default, metadata={"help": text, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class DistillConfig:
    """One distillation task. The defaults are the ``demo`` preset.

    A configuration is plain data: it can be compared, hashed, written as JSON (``to_dict``) and read back
    (``from_dict``).

    Raises:
        ConfigError: A value has the wrong type, is out of range, or contradicts another one.
    """

    # Data
    data: str = _setting("procedural", "'procedural' or a folder with ir/ and vi/ (optionally train.txt, val.txt).")
    scenes: int = _setting(48, "Number of procedural scenes; ignored for a folder.", low=3, high=100_000)
    scene_height: int = _setting(160, "Height of a procedural scene in pixels.", low=64, high=4096)
    scene_width: int = _setting(192, "Width of a procedural scene in pixels.", low=64, high=4096)
    data_seed: int = _setting(0, "Seed of scenes, splits, target bank and scored crops.", low=0, high=_LARGEST_SEED)
    small_images: str = _setting(
        "error", "What to do with images smaller than a crop: refuse or reflect them up.", choices=("error", "reflect")
    )
    crop_size: int = _setting(64, "Side of a training crop in pixels (paper: chosen, 224).", low=32, high=4096)
    batch_size: int = _setting(8, "Training crops in a mini-batch.", low=1, high=4096)
    bank_size: int = _setting(256, "Training crops drawn once, each with the teacher's target.", low=1)

    # Teacher and student
    teacher: str = _setting("embedded", "Name of the teacher; see fusion_env.teachers.names().")
    teacher_weights: str | None = _setting(None, "File or folder with the teacher's weights or fused images.")
    teacher_context: str = _setting(
        "crop", "Run the teacher on each crop, or cut targets from its whole fused image.", choices=("crop", "image")
    )
    student_init: str = _setting(
        "embedded", "Student before stage 0: 'prune' (from an LDFusion teacher), 'embedded', 'random' or a file."
    )
    stage0_rounds: int = _setting(0, "Rounds of guidance-only training before the first step.", low=0)
    stage0_seed: int = _setting(0, "Seed of stage 0.", low=0, high=_LARGEST_SEED)

    # Training
    rounds: int = _setting(25, "Rounds (environment steps) in a run.", low=1)
    iterations: int | None = _setting(4, "Mini-batches in a round; none = one pass over the training images.", low=1)
    learning_rate: float = _setting(0.002, "Step size of Adam.", low=0.0, high=1e30)
    guidance: bool = _setting(True, "Use the guidance loss (Eq. 1); off removes it exactly.")
    self_learning: bool = _setting(True, "Use the self-learning loss (Eq. 2); off removes it exactly.")
    self_learning_loss: str = _setting("l1", "Distance in Eq. 2.", choices=("l1", "l2"))
    detach_original: bool = _setting(False, "Stop the gradient of Eq. 2 at the student's output for clean input.")
    loss_scale: str = _setting(
        "stage0",
        "Divide each loss by its value on the stage-0 student, or use the raw values.",
        choices=("stage0", "none"),
    )
    logit_scale: float = _setting(3.0, "Factor on the two weight logits before the softmax (chosen).", low=0.1)
    perception: str = _setting("embedded", "Feature network of Eq. 1: 'embedded', 'vgg19' or 'vgg19-untrained'.")
    perception_weights: str | None = _setting(None, "File with the feature network's weights.")
    perception_taps: str = _setting(
        "before_relu", "Where the features of VGG-19 are read.", choices=("before_relu", "after_relu")
    )

    # Scoring
    iqa: str = _setting("embedded", "Quality score (IQA*): 'embedded', 'clip' or 'clip-untrained'.")
    iqa_model: str | None = _setting(None, "open_clip's model behind iqa=clip; none = RN50-quickgelu, as in CLIP-IQA.")
    iqa_weights: str | None = _setting(None, "File or published tag with the quality score's weights.")
    iqa_colour: bool = _setting(False, "Score quality on fused luma with the visible image's chroma.")
    score_size: int = _setting(96, "Side of a scored crop in pixels.", low=41, high=4096)
    score_crops: int = _setting(12, "Fixed crops of the reward split.", low=1)
    score_images: int | None = _setting(None, "Score so many of the fixed crops, fresh each round; none = all.", low=1)
    score_metrics: tuple[str, ...] = _setting(("vif", "iqa"), "Metrics whose mean is the score E of Eq. 6.")
    normalisation: str = _setting(
        "teacher",
        "Divide indicators by the teacher's mean, or map given bounds to 0..1.",
        choices=("teacher", "minmax"),
    )
    minmax_bounds: tuple[float, ...] = _setting(
        (), "For normalisation=minmax: low and high of AG, EI, VIF, SD, IQA (ten numbers)."
    )
    reward: str = _setting("gap", "E(student) - E(teacher), or its change.", choices=("gap", "gap_delta"))
    observation: str = _setting(
        "vector",
        "What the agent sees.",
        choices=("vector", "vector+time", "scalar", "performance", "gap"),
    )
    obs_scale: float = _setting(5.0, "Factor on the observed numbers (chosen).", low=1e-6)
    divergence_reward: float = _setting(-1.0, "Reward of each round lost by divergence.", high=0.0)
    stop_at_parity: bool = _setting(False, "End the run when E reaches the teacher's three rounds running.")

    # Machine
    device: str = _setting("auto", "'auto', 'cpu', 'cuda' or 'cuda:N'.")
    threads: int | None = _setting(
        None, "CPU threads of torch, set when the task is built; none = leave.", low=1, high=1024
    )
    autocast: bool = _setting(False, "Run the networks in bfloat16 during training.")
    channels_last: bool = _setting(True, "Keep the student's tensors in channels-last memory order.")
    cache_dir: str | None = _setting(None, "Cache of teacher targets and stage-0 students; none = user cache.")

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            object.__setattr__(self, item.name, _checked(item, getattr(self, item.name)))
        self._check_combinations()

    def _check_combinations(self) -> None:
        if not (self.guidance or self.self_learning):
            raise ConfigError("guidance=False and self_learning=False leave nothing to train: switch one of them on")
        if self.normalisation == "minmax":
            bounds = self.minmax_bounds
            if len(bounds) != 2 * len(INDICATORS) or any(
                not low < high for low, high in zip(bounds[::2], bounds[1::2], strict=True)
            ):
                raise ConfigError(
                    "normalisation='minmax' needs minmax_bounds with ten numbers, low < high for each of "
                    f"{', '.join(name.upper() for name in INDICATORS)}. Got {_shown(bounds)}"
                )
            foreign = [name for name in self.score_metrics if name not in INDICATORS]
            if foreign:
                raise ConfigError(f"normalisation='minmax' has no bounds for score_metrics {foreign}")
        elif self.minmax_bounds:
            raise ConfigError("minmax_bounds is only used with normalisation='minmax'")
        if not self.score_metrics:
            raise ConfigError("score_metrics is empty: name at least one metric, such as 'vif'")
        if self.score_images is not None and self.score_images > self.score_crops:
            raise ConfigError(f"score_images={self.score_images} is more than score_crops={self.score_crops}")
        if self.iqa_model is not None and self.iqa == "embedded":
            raise ConfigError(f"iqa_model={self.iqa_model!r} is only used with iqa='clip' or 'clip-untrained'")
        if self.teacher == "folder" and self.teacher_weights is None:
            raise ConfigError("teacher='folder' needs teacher_weights=DIR with the fused images")
        if self.data == "procedural":
            for name in ("crop_size", "score_size"):
                if getattr(self, name) > min(self.scene_height, self.scene_width):
                    raise ConfigError(
                        f"{name}={getattr(self, name)} is larger than a procedural scene: set scene_height "
                        f"({self.scene_height}) and scene_width ({self.scene_width}) to at least that"
                    )

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
            raise ConfigError(f"a configuration must be a mapping from setting to value. Got {_shown(values)}")
        _check_names(values)
        return cls(**values)


def _check_names(values: Mapping[str, Any]) -> None:
    known = [item.name for item in dataclasses.fields(DistillConfig)]
    for name in values:
        if not isinstance(name, str):
            raise ConfigError(f"the name of a setting must be a string. Got {_shown(name)}")
        if name not in known:
            raise unknown_name("setting", name, known)


def type_name(item: dataclasses.Field) -> str:
    """Return a field's type as text, such as ``"int | None"`` or ``"tuple[str, ...]"``."""
    return str(item.type) if get_args(item.type) else item.type.__name__


def _checked(item: dataclasses.Field, value: Any) -> Any:
    """Return `value` in the field's type, or say what is wrong with it."""
    kind = type_name(item)
    if value is None:
        if "None" in kind:
            return None
        raise ConfigError(f"{item.name} must not be None")
    value = _converted(item.name, kind, value)
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    if choices and value not in choices:
        raise ConfigError(f"{item.name} must be one of {', '.join(choices)}. Got {_shown(value)}")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"at most {high}" if low is None else f"in {low}..{high}"
        raise ConfigError(f"{item.name} must be {bounds}. Got {_shown(value)}")
    return value


def _converted(name: str, kind: str, value: Any) -> Any:
    if kind.startswith("tuple"):
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} must be a list. Got {_shown(value)}")
        member = "float" if "float" in kind else "str"
        return tuple(_converted(name, member, part) for part in value)
    if kind == "bool":
        if isinstance(value, bool):
            return value
    elif kind.startswith("int"):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif kind.startswith("float"):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
            return float(value)
    elif isinstance(value, str) and value and "\0" not in value:
        return value
    raise ConfigError(f"{name} must be of type {kind}. Got {_shown(value)}")


def _shown(value: object) -> str:
    """Return a value for an error message: it may come from anywhere, be very long or refuse to be written out."""
    try:
        text = repr(value)
    except Exception:  # such as an integer of too many digits
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


PRESETS: dict[str, dict[str, Any]] = {
    # For tests and for debugging an algorithm: a round takes well under a second on one core.
    "tiny": {
        "scenes": 10,
        "scene_height": 64,
        "scene_width": 80,
        "crop_size": 32,
        "batch_size": 2,
        "bank_size": 16,
        "teacher": "laplacian",
        "student_init": "random",
        "stage0_rounds": 4,
        "rounds": 10,
        "iterations": 1,
        "score_size": 48,
        "score_crops": 4,
    },
    # For grids of many runs.
    "bench": {
        "batch_size": 4,
        "bank_size": 192,
        "student_init": "prune",
        "stage0_rounds": 60,
        "rounds": 100,
        "iterations": 2,
        "score_size": 64,
        "score_crops": 8,
    },
    "demo": {},
    # Every number that the paper gives.
    "paper": {
        "data": "m3fd",
        "crop_size": 224,
        "batch_size": 24,
        "bank_size": 11_760,
        "teacher": "ldfusion",
        "student_init": "prune",
        "stage0_rounds": 20,
        "rounds": 100,
        "iterations": None,
        "loss_scale": "none",
        "perception": "vgg19",
        "iqa": "clip",
        "score_size": 224,
        "score_crops": 294,
        "score_images": 24,
    },
}
"""What each preset changes against the defaults of `DistillConfig`."""


def preset(name: str, **overrides: Any) -> DistillConfig:
    """Return a preset with some fields overridden.

    Args:
        name: ``"tiny"``, ``"bench"``, ``"demo"`` or ``"paper"``.
        **overrides: Fields of `DistillConfig`.

    Returns:
        The configuration.

    Raises:
        UnknownNameError: The preset or a field does not exist.
        ConfigError: A value is out of range.

    >>> preset("tiny", rounds=3).rounds
    3
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return DistillConfig().replace(**{**PRESETS[name], **overrides})
