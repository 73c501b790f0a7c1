"""TDFusion: a Restormer-style network of 60 thousand parameters with crossed channel attention.

Layers and parameter names follow github.com/HaowenBai/TDFusion, so that its official weights load strictly.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_env.teachers.base import Published
from fusion_env.teachers.published import OfficialFile, PublishedTeacher, check_names, check_tensors, load_part
from fusion_env.teachers.registry import register
from fusion_env.teachers.restormer import (
    GatedFeedForward,
    TransformerBlock,
    attend_channels,
    conv1x1,
    conv3x3,
    depthwise3x3,
)
from fusion_env.teachers.stretch import min_max_stretch
from student.weights import WeightsError, unwrapped

__all__ = ["TDFusion"]

_WIDTH = 16
_HEADS = 8


class _FusionModule(nn.Module):
    """Attend from each image to the other, then let both, gated by their union, correct it."""

    def __init__(self) -> None:
        super().__init__()
        c = _WIDTH
        self.temperature1 = nn.Parameter(torch.ones(_HEADS, 1, 1))
        self.temperature2 = nn.Parameter(torch.ones(_HEADS, 1, 1))
        self.qkv1, self.qkv1_dwconv = conv1x1(c, 3 * c), depthwise3x3(3 * c)
        self.qkv2, self.qkv2_dwconv = conv1x1(c, 3 * c), depthwise3x3(3 * c)
        self.project_mid1 = conv1x1(c, c)
        self.project_mid2 = conv1x1(c, c)
        self.project_E, self.project_E_d = conv1x1(2 * c, 8 * c), depthwise3x3(8 * c)
        self.project_E1, self.project_E1_d = conv1x1(c, 4 * c), depthwise3x3(4 * c)
        self.project_E2, self.project_E2_d = conv1x1(c, 4 * c), depthwise3x3(4 * c)
        self.project_out1 = conv1x1(4 * c, 2 * c)
        self.project_out2 = conv1x1(4 * c, 2 * c)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Fuse the features of infrared and visible image, [B, 16, H, W] each, to [B, 32, H, W]."""
        q1, k1, v1 = self.qkv1_dwconv(self.qkv1(x1)).chunk(3, dim=1)
        q2, k2, v2 = self.qkv2_dwconv(self.qkv2(x2)).chunk(3, dim=1)
        x1 = x1 + self.project_mid1(attend_channels(q2, k1, v1, self.temperature1))
        x2 = x2 + self.project_mid2(attend_channels(q1, k2, v2, self.temperature2))
        both = torch.cat([x1, x2], dim=1)
        gate1, gate2 = F.gelu(self.project_E_d(self.project_E(both))).chunk(2, dim=1)
        detail1 = self.project_out1(gate1 * self.project_E1_d(self.project_E1(x1)))
        detail2 = self.project_out2(gate2 * self.project_E2_d(self.project_E2(x2)))
        return both + detail1 + detail2


def _blocks(channels: int) -> nn.Sequential:
    return nn.Sequential(*(TransformerBlock(channels, _HEADS, GatedFeedForward(channels)) for _ in range(2)))


@register("tdfusion")
class TDFusion(PublishedTeacher):
    """The TDFusion network: 0.059856 M parameters, 2.9744 G multiply-adds (thop) at 224x224.

    Pre- and post-processing are those of the official test script: visible luma Y = 0.299 R + 0.587 G + 0.114 B and
    infrared, both in 0..1, and a result stretched from its own minimum and maximum to 0..1. The stretch sees the whole
    input, so a crop of the fused image is not the fused crop. The script's colour copy of the result, which is
    stretched once more over all three channels, is not made. The network was trained on both orders of the two images,
    but is not symmetric: infrared comes first.

    Its state dict has one key for each tensor of the official file, which holds every convolution's weight twice. The
    makers publish four files, one for each data set; their script uses the one named here, any other can be given.
    """

    published = Published(
        summary="TDFusion: Restormer of 0.06 M parameters with crossed channel attention",
        repository="github.com/HaowenBai/TDFusion",
        licence="none stated",
        files=("TDFusion_MSRS.pth",),
    )

    def __init__(self) -> None:
        super().__init__()
        self.project_in_1 = conv3x3(1, _WIDTH)
        self.project_in_2 = conv3x3(1, _WIDTH)
        self.encoder1 = _blocks(_WIDTH)
        self.encoder2 = _blocks(_WIDTH)
        self.FM = _FusionModule()
        self.decoder = _blocks(2 * _WIDTH)
        self.project_out_0 = conv3x3(2 * _WIDTH, _WIDTH)
        self.project_out_1 = conv3x3(_WIDTH, 1)

    def load_official(self, files: Mapping[str, OfficialFile]) -> None:
        """Load one of each two equal tensors, all of which must be there; see `PublishedTeacher.load_official`."""
        (file,) = files.values()
        source = str(file.path)
        convolutions = [name for name, module in self.named_modules() if isinstance(module, nn.Conv2d)]
        copies = {f"{name}.conv.weight": f"{name}.weight" for name in convolutions}
        names = [*self.state_dict(), *copies]
        state = dict(unwrapped(check_tensors(file.content, source), names, source))
        check_names(state, names, "keys", source)
        second = {key: state.pop(key) for key in copies}
        load_part(self, state, source)
        for key, of in copies.items():
            if not torch.equal(second[key], state[of]):
                raise WeightsError(f"{source}: {key!r} must equal {of!r} and does not.")

    def fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse [B, 1, H, W] images in 0..1 of any size; see `Teacher.fuse_luma`."""
        return min_max_stretch(self.forward_raw(ir=ir, vis=vis))

    def forward_raw(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse without the stretch: [B, 1, H, W], after the sigmoid."""
        x_ir = self.encoder1(self.project_in_1(ir))
        x_vis = self.encoder2(self.project_in_2(vis))
        x = self.decoder(self.FM(x_ir, x_vis))
        return torch.sigmoid(self.project_out_1(F.leaky_relu(self.project_out_0(x), 0.01)))
