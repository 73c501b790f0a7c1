"""Write a student as one file that runs without this package: ONNX, or a program of `torch.export`.

Both take infrared [B, 1, H, W] and visible RGB [B, 3, H, W], float32 in 0..1, any batch and any H and W from 16, and
return the fused luma [B, 1, H, W]; colour is put back by ``rgb + fused - luma``. Such a file can be a teacher, too:
``teacher="exported", teacher_weights=FILE``.
"""

import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from student.files import replaced
from student.fuse.colour import luma_of
from student.network import MIN_SIZE, FusionStudent, SampleLayerNorm
from student.weights import WeightsError

__all__ = ["FORMATS", "OPSET", "export_onnx", "export_program"]

OPSET = 18
"""Version of ONNX's operators."""

_INPUTS, _OUTPUT = ("ir", "vis"), "fused"
_EXAMPLE = (2, 80, 104)


def export_onnx(student: FusionStudent, path: Path, *, half: bool = False) -> None:
    """Write a student as ONNX with opset `OPSET`, graph and weights in one file.

    Within 1e-4 of the student in onnxruntime (found on real pairs and crops of 16 to 64 pixels: 3e-5); with ``half``
    within 1/255 (found: 1.4e-3 on whole pictures, 3.4e-3 on crops). Not where a source has one value throughout: there
    the network shows its own rounding, which differs by 0.1 and more; see `student.fuse`. Weights of 8 bits are not
    offered: dynamic quantisation was off by 0.02 and slower.

    Args:
        student: The network.
        path: The file, ending in ``.onnx``.
        half: Convolve in float16, with half the size; inputs, outputs and statistics stay float32.

    Raises:
        WeightsError: onnx or onnxscript is not installed.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise WeightsError(
            f'ONNX needs {" and ".join(missing)}; in the folder of fusion-env: pip install -e ".[export]"'
        )
    network = _Exported(student, half)
    _replace_norms(network)
    with _quietly(), replaced(path) as part:
        program = torch.onnx.export(
            network,
            _example(),
            dynamo=True,
            input_names=_INPUTS,
            output_names=[_OUTPUT],
            dynamic_shapes=_dynamic_sizes(),
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None
        program.save(part, external_data=False)


def export_program(student: FusionStudent, path: Path, *, half: bool = False) -> None:
    """Write a student as a program of `torch.export`, ending in ``.pt2``; arguments are those of `export_onnx`.

    The same as the student; with ``half`` found within 0.006 on real pictures and crops of 64 pixels, and 0.07 on
    32 x 32 pixels of hardly any contrast: its statistics have 16 bits as well.
    """
    network = _Exported(student, half)
    with _quietly():
        program = torch.export.export(network, _example(), dynamic_shapes=_dynamic_sizes())
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    with replaced(path) as part:
        part.write_bytes(buffer.getvalue())


FORMATS = {".onnx": export_onnx, ".pt2": export_program}
"""What can be written, by the ending of the file's name."""


class _Exported(nn.Module):
    """A student with the inputs and the output of the exported file."""

    def __init__(self, student: FusionStudent, half: bool) -> None:
        super().__init__()
        self.dtype = torch.float16 if half else torch.float32
        self.student = copy.deepcopy(student).cpu().eval().requires_grad_(False).to(self.dtype)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        luma = luma_of(vis)
        fused = self.student.forward_raw(ir=ir.to(self.dtype), vis=luma.to(self.dtype))
        # Rows and columns beyond the image, counted from the end: exporters see that they are always there.
        below, beside = (side % 8 - 21 for side in ir.shape[-2:])
        return self.student.exposed(fused[:, :, :below, :beside].float(), ir=ir, vis=luma)


class _InstanceNorm(nn.Module):
    """Instance normalisation whose sums are taken along rows first: runtimes lose four digits over a megapixel."""

    def __init__(self, norm: nn.InstanceNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        centred, variance = _centred(x.float())
        return (centred * (variance + self.eps).rsqrt()).to(x.dtype)


class _SampleNorm(nn.Module):
    """`SampleLayerNorm` with the same sums."""

    def __init__(self, norm: SampleLayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        centred, variance = _centred(x.float(), across_channels=True)
        count = x.shape[1] * x.shape[2] * x.shape[3]
        std = (variance * (count / (count - 1))).sqrt()
        gamma, beta = (values.float().view(1, -1, 1, 1) for values in (self.norm.gamma, self.norm.beta))
        return (centred / (std + self.norm.eps) * gamma + beta).to(x.dtype)


def _centred(x: Tensor, across_channels: bool = False) -> tuple[Tensor, Tensor]:
    """Return a map without its mean, and its biased variance."""

    def mean(values: Tensor) -> Tensor:
        values = values.mean(3, keepdim=True).mean(2, keepdim=True)
        return values.mean(1, keepdim=True) if across_channels else values

    centred = x - mean(x)
    return centred, mean(centred.square())


def _replace_norms(network: nn.Module) -> None:
    for parent in [*network.modules()]:
        for name, child in [*parent.named_children()]:
            if isinstance(child, nn.InstanceNorm2d):
                setattr(parent, name, _InstanceNorm(child))
            elif isinstance(child, SampleLayerNorm):
                setattr(parent, name, _SampleNorm(child))


def _example() -> tuple[Tensor, Tensor]:
    batch, height, width = _EXAMPLE
    return torch.zeros(batch, 1, height, width), torch.zeros(batch, 3, height, width)


def _dynamic_sizes() -> tuple[dict[int, Any], dict[int, Any]]:
    height, width = (torch.export.Dim(name, min=MIN_SIZE) for name in ("height", "width"))
    axes = {0: torch.export.Dim("batch", min=1), 2: height, 3: width}
    return axes, axes


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep from the user what exporters print about themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
