"""The student rearranged for the CPU: the same function in less than half the time, in plain PyTorch.

Four things cost most of the time there, and are done otherwise:

- A transposed convolution with stride 2 runs outside oneDNN. It is four small convolutions, one for each parity of row
  and column of the result.
- The last convolution has one output channel, so that 15 of 16 lanes of a vector unit idle. Its seven columns become
  seven channels, which are then added, each shifted.
- Instance normalisation converts channels-last maps to and fro. Here it is sums, then one scale and shift.
- Normalised maps are written where the next layer wants them: interleaved, and inside the border that reflection fills.

`experiments/measurements/inference_speed.py` compares it with the plain network, onnxruntime and OpenVINO.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from student.fuse.moments import Moments, moments
from student.network import ContentEncoder, FusionStudent, SampleLayerNorm, check_pair

__all__ = ["FastStudent"]

_LAST = torch.channels_last
_KERNEL = 7
_MARGIN = _KERNEL // 2


class FastStudent(nn.Module):
    """Fuse like a given `FusionStudent`, within 1e-4 (1e-5 from 64 pixels a side), without gradients.

    Args:
        student: The network. Its weights are copied: later changes of them have no effect.
    """

    def __init__(self, student: FusionStudent) -> None:
        super().__init__()
        self.visible = _Encoder(student.encoder.content_encoder1)
        self.infrared = _Encoder(student.encoder.content_encoder2)
        modules = [*student.decoder.model_up]
        ups = [module for module in modules if isinstance(module, nn.ConvTranspose2d)]
        norms = [module for module in modules if isinstance(module, SampleLayerNorm)]
        margins = [0] * (len(ups) - 1) + [_MARGIN]
        self.ups = nn.ModuleList(_Upsampling(*stage) for stage in zip(ups, norms, margins, strict=True))
        last = modules[-1]
        assert isinstance(last, nn.Conv2d)
        # [1, C, rows, columns] -> [columns, C, rows, 1]
        self.columns = _frozen(last.weight.permute(3, 1, 2, 0))
        self.bias = _frozen_bias(last)

    @torch.inference_mode()
    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse a batch of registered pairs; see `FusionStudent.forward`."""
        check_pair(ir=ir, vis=vis)
        height, width = ir.shape[-2:]
        x = torch.cat([self.visible(vis), self.infrared(ir)], dim=1)
        for up in self.ups:
            x = up(x)
        parts = F.conv2d(x, self.columns)[:, :, :height]
        fused = self.bias + parts[:, :1, :, :width]
        for shift in range(1, _KERNEL):
            fused += parts[:, shift : shift + 1, :, shift : shift + width]
        return fused.sigmoid_()


class _Encoder(nn.Module):
    """A `ContentEncoder`; the biases go, as instance normalisation subtracts them again."""

    def __init__(self, encoder: ContentEncoder) -> None:
        super().__init__()
        convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
        norms = [module for module in encoder.modules() if isinstance(module, nn.InstanceNorm2d)]
        (self.eps,) = {norm.eps for norm in norms}
        self.strided = [module.stride[0] > 1 for module in convolutions]
        self.weights = nn.ParameterList(_frozen(module.weight) for module in convolutions)

    def forward(self, image: Tensor) -> Tensor:
        first, *weights = self.weights
        downs = self.strided.count(True)
        x = self._normalised(F.conv2d(_reflected(image, _MARGIN), first)).relu_()
        for weight in weights[:downs]:
            x = self._normalised(F.conv2d(x, weight, stride=2, padding=1)).relu_()
        for one, two in zip(weights[downs::2], weights[downs + 1 :: 2], strict=True):
            y = self._normalised(F.conv2d(_reflected(x, 1), one)).relu_()
            x = x + self._normalised(F.conv2d(_reflected(y, 1), two))
        return x

    def _normalised(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=_LAST)
        scale, shift = moments(x).instance_affine(self.eps)
        return torch.addcmul(shift, x, scale, out=x)


class _Upsampling(nn.Module):
    """A transposed 5x5 convolution with stride 2, `SampleLayerNorm` and ReLU, reflected beyond the border."""

    def __init__(self, up: nn.ConvTranspose2d, norm: SampleLayerNorm, margin: int) -> None:
        super().__init__()
        self.norm = norm
        self.margin = margin
        # Row 2 q + r of the result sums x[q - i] * kernel[2 i + r]: a convolution with every other row, turned round.
        # [in, out, rows, columns] -> [out, in, rows, columns]
        parts = [up.weight[:, :, row::2, column::2].flip(2, 3).transpose(0, 1) for row in (0, 1) for column in (0, 1)]
        self.weights = nn.ParameterList(map(_frozen, parts))
        self.bias = _frozen_bias(up)

    def forward(self, x: Tensor) -> Tensor:
        parts = [F.conv2d(x, part, self.bias, padding=(part.shape[2] - 1, part.shape[3] - 1)) for part in self.weights]
        scale, shift = _together([moments(part) for part in parts]).sample_affine(self.norm)
        (batch, _, height, width), border = x.shape, 2 * self.margin
        size = (batch, len(self.bias), 2 * height + 3 + border, 2 * width + 3 + border)
        out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=_LAST)
        inside = out[:, :, self.margin : size[2] - self.margin, self.margin : size[3] - self.margin]
        for number, part in enumerate(parts):
            row, column = divmod(number, 2)
            torch.addcmul(shift, part, scale, out=inside[:, :, row::2, column::2])
        inside.relu_()
        _reflect(out, self.margin)
        return out


def _together(parts: list[Moments]) -> Moments:
    first, *others = parts
    return sum(others, first)


def _reflected(x: Tensor, margin: int) -> Tensor:
    return F.pad(x, (margin,) * 4, mode="reflect")


def _reflect(x: Tensor, margin: int) -> None:
    """Fill the border of a map by reflection of what it surrounds, in place."""
    for dim in (2, 3):
        side = x.movedim(dim, 0)
        for step in range(1, margin + 1):
            side[margin - step] = side[margin + step]
            side[step - margin - 1] = side[-step - margin - 1]


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach().clone(memory_format=_LAST), requires_grad=False)


def _frozen_bias(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Parameter:
    assert convolution.bias is not None
    return nn.Parameter(convolution.bias.detach().clone(), requires_grad=False)
