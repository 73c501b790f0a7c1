"""Cut a student out of LDFusion's weights: the strongest channels by the L1 norm of their filters.

AgentFuse starts from such a student (arXiv 2509.02424). The teacher's adaptive residual blocks and its style branch are
dropped. A channel disappears everywhere at once: in the filter (and bias, gamma, beta) that makes it and in the weights
of every layer that reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from student.network import FusionStudent
from student.numerics import own_numerics
from student.weights import WeightsError, build_student

__all__ = ["EncoderPlan", "PruningPlan", "plan_pruning", "prune_ldfusion"]

_TEACHER_WIDTH = 16
_ENCODERS = ("content_encoder1", "content_encoder2")

Indices = tuple[int, ...]


@dataclass(frozen=True)
class EncoderPlan:
    """Channels kept in one content encoder, as ascending indices into the teacher's channels.

    Attributes:
        stem: Of the 7x7 convolution.
        down1: Of the first stride-2 convolution.
        down2: Of the second stride-2 convolution.
        code: Of the third stride-2 convolution and of both residual blocks: everything that is summed shares one set.
        inner: Inside each of the two residual blocks.
    """

    stem: Indices
    down1: Indices
    down2: Indices
    code: Indices
    inner: tuple[Indices, Indices]

    def layers(self) -> tuple[tuple[str, Indices, Indices], ...]:
        """List every convolution as (name, input channels kept, output channels kept)."""
        return (
            ("model.1", (0,), self.stem),
            ("model.4", self.stem, self.down1),
            ("model.7", self.down1, self.down2),
            ("model.10", self.down2, self.code),
            ("model.13.block.1", self.code, self.inner[0]),
            ("model.13.block.5", self.inner[0], self.code),
            ("model.14.block.1", self.code, self.inner[1]),
            ("model.14.block.5", self.inner[1], self.code),
        )


@dataclass(frozen=True, kw_only=True)
class PruningPlan:
    """Channels kept in the whole network.

    Attributes:
        ir: In the infrared image's encoder.
        vis: In the visible image's encoder.
        up: Of the three transposed convolutions.
        code_channels: Channels of one unpruned content code (128 for LDFusion).
    """

    ir: EncoderPlan
    vis: EncoderPlan
    up: tuple[Indices, Indices, Indices]
    code_channels: int

    @property
    def content(self) -> Indices:
        """Kept channels of the concatenated code, visible first: what the first transposed convolution reads."""
        return self.vis.code + tuple(self.code_channels + index for index in self.ir.code)

    def up_layers(self) -> tuple[tuple[str, Indices, Indices], ...]:
        """List every transposed convolution as (name, input channels kept, output channels kept)."""
        return (
            ("model_up.0", self.content, self.up[0]),
            ("model_up.3", self.up[0], self.up[1]),
            ("model_up.6", self.up[1], self.up[2]),
        )


def plan_pruning(teacher_state: Mapping[str, Tensor], width: int = 8) -> PruningPlan:
    """Choose the channels to keep.

    A channel's strength is the L1 norm of the filter that makes it (bias excluded). Where several layers add into the
    same channels - the third stride-2 convolution and the last convolution of each residual block - it is the sum of
    their norms. Equal strengths keep the lower index.

    Args:
        teacher_state: LDFusion's state dict with keys ``Enc.*`` and ``Dec.*``.
        width: Width of the student, 1 to 16: every layer keeps width / 16 of its channels.

    Returns:
        The kept channels.

    Raises:
        ValueError: If ``width`` is out of range.
        WeightsError: If a tensor of LDFusion is missing.
    """
    if not 1 <= width <= _TEACHER_WIDTH:
        raise ValueError(f"width must be in 1..{_TEACHER_WIDTH}, the teacher's own. Got {width}.")
    vis, ir = (_plan_encoder(teacher_state, f"Enc.{name}", width) for name in _ENCODERS)
    # The weight of a transposed convolution is [in, out, k, k].
    strengths = [_tensor(teacher_state, f"Dec.model_up.{i}.weight").abs().sum(dim=(0, 2, 3)) for i in (0, 3, 6)]
    first, second, third = (
        _strongest(strength, width * 2**power) for strength, power in zip(strengths, (3, 2, 1), strict=True)
    )
    return PruningPlan(ir=ir, vis=vis, up=(first, second, third), code_channels=8 * _TEACHER_WIDTH)


@own_numerics()
def prune_ldfusion(teacher_state: Mapping[str, Tensor], width: int = 8) -> FusionStudent:
    """Build a student from the strongest channels of an LDFusion teacher.

    Args:
        teacher_state: LDFusion's state dict with keys ``Enc.*`` and ``Dec.*``; not changed.
        width: Width of the student, 1 to 16; 8 keeps half of the channels, as published.

    Returns:
        A student on the CPU. Its output needs training: the teacher's residual blocks are gone and the output is a
        sigmoid instead of a clamped tanh.

    Raises:
        ValueError: If ``width`` is out of range.
        WeightsError: If the state is not LDFusion's.
    """
    plan = plan_pruning(teacher_state, width)
    state: dict[str, Tensor] = {}
    for name, encoder in zip(_ENCODERS, (plan.vis, plan.ir), strict=True):
        for layer, inputs, outputs in encoder.layers():
            source, target = f"Enc.{name}.{layer}", f"encoder.{name}.{layer}"
            state[f"{target}.weight"] = _take(teacher_state, f"{source}.weight", outputs, inputs)
            state[f"{target}.bias"] = _take(teacher_state, f"{source}.bias", outputs)
    for layer, inputs, outputs in plan.up_layers():
        state[f"decoder.{layer}.weight"] = _take(teacher_state, f"Dec.{layer}.weight", inputs, outputs)
        state[f"decoder.{layer}.bias"] = _take(teacher_state, f"Dec.{layer}.bias", outputs)
        norm = f"model_up.{int(layer.rsplit('.', 1)[1]) + 1}"
        for key in (f"{norm}.gamma", f"{norm}.beta"):
            state[f"decoder.{key}"] = _take(teacher_state, f"Dec.{key}", outputs)
    state["decoder.model_up.10.weight"] = _take(teacher_state, "Dec.model_up.10.weight", (0,), plan.up[2])
    state["decoder.model_up.10.bias"] = _take(teacher_state, "Dec.model_up.10.bias", (0,))
    return build_student(state, "pruned LDFusion state")


def _plan_encoder(state: Mapping[str, Tensor], prefix: str, width: int) -> EncoderPlan:
    def strength(*layers: str) -> Tensor:
        first, *others = (_tensor(state, f"{prefix}.{layer}.weight").abs().sum(dim=(1, 2, 3)) for layer in layers)
        return sum(others, start=first)

    return EncoderPlan(
        stem=_strongest(strength("model.1"), width),
        down1=_strongest(strength("model.4"), 2 * width),
        down2=_strongest(strength("model.7"), 4 * width),
        code=_strongest(strength("model.10", "model.13.block.5", "model.14.block.5"), 8 * width),
        inner=(
            _strongest(strength("model.13.block.1"), 8 * width),
            _strongest(strength("model.14.block.1"), 8 * width),
        ),
    )


def _strongest(strength: Tensor, count: int) -> Indices:
    order = strength.argsort(descending=True, stable=True)
    return tuple(order[:count].sort().values.tolist())


def _take(state: Mapping[str, Tensor], key: str, *indices: Indices) -> Tensor:
    """Index the leading dimensions of a tensor by one index set each."""
    tensor = _tensor(state, key)
    for dim, kept in enumerate(indices):
        tensor = tensor.index_select(dim, torch.tensor(kept))
    return tensor.clone()


def _tensor(state: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in state:
        raise WeightsError(f"The teacher's state has no {key}: only LDFusion (keys Enc.* and Dec.*) can be pruned.")
    return state[key].detach().cpu()
