"""LDFusion, the teacher of AgentFuse: content and style encoders, adaptive instance normalisation, up-sampling decoder.

Layers and parameter names follow github.com/wyhlaowang/LDFusion, so that its official weights load strictly.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_env.errors import ConfigError
from fusion_env.packaged import packaged
from fusion_env.teachers.base import Published, Teacher
from fusion_env.teachers.published import OfficialFile, PublishedTeacher, load_part
from fusion_env.teachers.registry import register
from student.layout import instance_norm, keeps_order, run
from student.network import PairEncoder, UpsamplingDecoder, check_pair
from student.on_cpu import decode_on_cpu, encode_on_cpu
from student.weights import load_into, load_state

__all__ = ["AdaptiveInstanceNorm", "EmbeddedLDFusion", "LDFusion", "LDFusionNetwork"]

_WIDTH = 16
_CONTENT = 256
_STYLE = 8
_HIDDEN = 256
_EPS = 1e-5


class AdaptiveInstanceNorm(nn.Module):
    """Normalise each channel of each sample, then scale and shift it by given numbers.

    The buffers exist only because official checkpoints contain them; nothing reads them.

    Args:
        channels: Number of channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Normalise ``x``.

        Args:
            x: [B, C, H, W]; biased variance, `_EPS` added to it.
            shift: [B, C], added.
            scale: [B, C], multiplied directly (not as 1 + scale).

        Returns:
            [B, C, H, W], the dtype of ``x``.
        """
        if keeps_order(x):
            return torch.addcmul(shift[:, :, None, None], instance_norm(x, _EPS), scale[:, :, None, None]).to(x.dtype)
        # Batch normalisation in training mode on a (1, B * C, H, W) view treats every sample's channel by itself. One
        # sample needs no view, after which its gradient of a channels-last map would be wrong on a CPU (PyTorch 2.14).
        flat = x if len(x) == 1 else x.reshape(1, -1, *x.shape[2:])
        weight, bias = scale.reshape(-1).float(), shift.reshape(-1).float()
        out = F.batch_norm(flat, None, None, weight, bias, training=True, eps=_EPS)
        return out if len(x) == 1 else out.view(x.shape)


class _AdaptiveResidualBlock(nn.Module):
    """Two 3x3 convolutions with adaptive instance normalisation around an identity path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # A ModuleList, because two of the seven layers take arguments; its indices are the published names.
        self.block = nn.ModuleList(
            [
                nn.ReflectionPad2d(1),
                nn.Conv2d(channels, channels, 3),
                AdaptiveInstanceNorm(channels),
                nn.ReLU(inplace=True),
                nn.ReflectionPad2d(1),
                nn.Conv2d(channels, channels, 3),
                AdaptiveInstanceNorm(channels),
            ]
        )

    def forward(self, x: Tensor, affine: Tensor) -> Tensor:
        """Return ``x`` [B, C, H, W] plus its residual; ``affine`` [B, 4, C]: shift, scale, shift, scale."""
        pad1, conv1, norm1, relu, pad2, conv2, norm2 = self.block
        y = relu(norm1(run([pad1, conv1], x), affine[:, 0], affine[:, 1]))
        return x + norm2(run([pad2, conv2], y), affine[:, 2], affine[:, 3])


class _StyleEncoder(nn.Module):
    """Encode one image into 8 numbers."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(1, 16, 7), nn.ReLU(inplace=True)]
        for inputs, outputs in ((16, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.ReLU(inplace=True)]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(64, _STYLE, 1)]
        self.model = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Encode ``image`` [B, 1, H, W] to [B, 8]."""
        return run(self.model, image).flatten(1)


class _Encoder(PairEncoder):
    """Content encoders and style encoders of both images."""

    def __init__(self) -> None:
        super().__init__(_WIDTH)
        self.style_encoder1 = _StyleEncoder()
        self.style_encoder2 = _StyleEncoder()

    def style(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return both style codes, visible first as the content codes: [B, 16]."""
        return torch.cat([self.style_encoder1(vis), self.style_encoder2(ir)], dim=1)


class _StylePerceptron(nn.Module):
    """Map the style code to the parameters of the adaptive normalisations."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(2 * _STYLE, _HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(_HIDDEN, outputs),
        )

    def forward(self, style: Tensor) -> Tensor:
        """Map ``style`` [B, 16] to [B, outputs]."""
        return self.model(style)


class _Decoder(UpsamplingDecoder):
    """Two residual blocks steered by the style code, then the up-sampling decoder."""

    def __init__(self) -> None:
        super().__init__(_CONTENT)
        self.model_local = nn.ModuleList([_AdaptiveResidualBlock(_CONTENT) for _ in range(2)])
        self.mlp = _StylePerceptron(2 * 4 * _CONTENT)

    def steer(self, content: Tensor, style: Tensor) -> Tensor:
        """Return the content code as the style code would have it, [B, 256, h, w]."""
        affine = self.mlp(style).view(-1, 2, 4, _CONTENT)
        for i, block in enumerate(self.model_local):
            content = block(content, affine[:, i])
        return content


class LDFusionNetwork(Teacher):
    """The LDFusion network, whoever trained it: 5.776977 M parameters, 13.0881 G multiply-adds (thop) at 224x224.

    Pre-processing is the official one: visible luma Y = 0.299 R + 0.587 G + 0.114 B and infrared, both in 0..1. Its
    state dict holds the official encoder file under ``Enc.`` and the decoder file under ``Dec.``.
    """

    channels_last = True

    def __init__(self) -> None:
        super().__init__()
        self.Enc = _Encoder()
        self.Dec = _Decoder()

    def fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse [B, 1, H, W] images in 0..1, H and W at least 16; see `Teacher.fuse_luma`."""
        height, width = ir.shape[-2:]
        return self.forward_raw(ir=ir, vis=vis)[..., :height, :width]

    def forward_raw(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse without the crop: [B, 1, 8 (H // 8) + 21, 8 (W // 8) + 21] in 0..1."""
        return self.forward_signed(ir=ir, vis=vis).clamp(0, 1)

    def forward_signed(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse without crop and clamp: values in -1..1, for training (the clamp has no gradient below 0)."""
        check_pair(ir=ir, vis=vis)
        style = self.Enc.style(ir=ir, vis=vis)
        if ir.is_cpu and torch.is_inference_mode_enabled() and not torch.is_autocast_enabled("cpu"):
            # Elsewhere layer by layer, as counters of operations and the teacher's own training want it.
            content = encode_on_cpu(self.Enc, ir=ir, vis=vis)
            return torch.tanh(decode_on_cpu(self.Dec, self.Dec.steer(content, style)))
        return torch.tanh(self.Dec(self.Dec.steer(self.Enc(ir=ir, vis=vis), style)))


@register("ldfusion")
class LDFusion(LDFusionNetwork, PublishedTeacher):
    """The LDFusion network with the weights of its makers."""

    published = Published(
        summary="LDFusion: content and style encoders, adaptive instance normalisation",
        repository="github.com/wyhlaowang/LDFusion",
        licence="Apache-2.0",
        files=("Enc_final.pt", "Dec_final.pt"),
    )

    def load_official(self, files: Mapping[str, OfficialFile]) -> None:
        """Load encoder and decoder; see `PublishedTeacher.load_official`."""
        load_part(self.Enc, files["Enc_final.pt"].content, str(files["Enc_final.pt"].path))
        load_part(self.Dec, files["Dec_final.pt"].content, str(files["Dec_final.pt"].path))


@register("embedded")
class EmbeddedLDFusion(LDFusionNetwork):
    """The LDFusion architecture with weights trained on procedural scenes, which are part of this package."""

    needs_weights = False

    @classmethod
    def from_weights(cls, weights: Path | None) -> "EmbeddedLDFusion":
        """Build the network from the embedded weights.

        Args:
            weights: Must be None.

        Raises:
            ConfigError: If ``weights`` is given.
            MissingRequirementsError: If the package was installed without its assets.
        """
        if weights is not None:
            raise ConfigError(
                f'teacher "embedded" takes no weights. Got {str(weights)!r}; use teacher="ldfusion" to load a file.'
            )
        teacher = cls()
        with packaged("teacher.safetensors") as path:
            load_into(teacher, load_state(path), str(path))
        return teacher
