"""Text-IF: a Restormer-style U-Net on RGB whose features a text prompt modulates.

Layers and parameter names follow github.com/XunpengYi/Text-IF, so that its official weights load strictly. The prompt
of plain fusion is fixed and CLIP is frozen, so the text feature is a constant: it is a buffer here, not a network.
"""

import argparse
import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_env.data.colour import rgb_to_luma
from fusion_env.errors import MissingRequirementsError
from fusion_env.fingerprint import sha256_of
from fusion_env.teachers.base import Published, check_batch
from fusion_env.teachers.clip_text import (
    FEATURE_FILES,
    FEATURE_SIZE,
    build_clip,
    encode_prompt,
    find_feature,
    prompt_tokens,
    read_feature,
)
from fusion_env.teachers.published import OfficialFile, PublishedTeacher, check_tensors, load_part
from fusion_env.teachers.registry import register
from fusion_env.teachers.restormer import PlainFeedForward, TransformerBlock, conv1x1, conv3x3
from fusion_env.teachers.stretch import min_max_stretch
from student.weights import WeightsError, bare_name

__all__ = ["FUSION_PROMPT", "TextIF", "TextIFWithClip", "attend_positions"]

FUSION_PROMPT = "This is the infrared and visible light image fusion task."
"""The prompt of plain fusion, which ``simple_fusion.pth`` was trained with."""

_WIDTHS = (48, 96, 192, 384)
_HEADS = (1, 2, 4, 8)
_STRIDE = 8
_GROUPS = 16
_HIDDEN = 1024


def _blocks(channels: int, heads: int, count: int = 2) -> nn.Sequential:
    return nn.Sequential(*(TransformerBlock(channels, heads, PlainFeedForward(channels)) for _ in range(count)))


def _down(channels: int) -> nn.Sequential:
    """Halve height and width, double the channels."""
    return nn.Sequential(OrderedDict(body=nn.Sequential(conv3x3(channels, channels // 2), nn.PixelUnshuffle(2))))


def _up(channels: int) -> nn.Sequential:
    """Double height and width, halve the channels."""
    return nn.Sequential(OrderedDict(body=nn.Sequential(conv3x3(channels, 2 * channels), nn.PixelShuffle(2))))


def attend_positions(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend from each position to all others with one head; [B, C, H, W] each, without the (H W)^2 matrix."""
    # [B, 1, H * W, C]; the kernel that does without the matrix needs contiguous channels.
    query, key, value = (x.flatten(2).mT.contiguous().unsqueeze(1) for x in (q, k, v))
    attended = F.scaled_dot_product_attention(query, key, value)
    return attended.squeeze(1).mT.reshape(v.shape)


class _Encoder(nn.Module):
    """Encode one RGB image at four scales."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Sequential(OrderedDict(proj=conv3x3(3, _WIDTHS[0])))
        self.encoder_level1 = _blocks(_WIDTHS[0], _HEADS[0])
        self.down1_2 = _down(_WIDTHS[0])
        self.encoder_level2 = _blocks(_WIDTHS[1], _HEADS[1])
        self.down2_3 = _down(_WIDTHS[1])
        self.encoder_level3 = _blocks(_WIDTHS[2], _HEADS[2])
        self.down3_4 = _down(_WIDTHS[2])
        self.encoder_level4 = _blocks(_WIDTHS[3], _HEADS[3])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode [B, 3, H, W], H and W multiples of 8.

        Returns:
            [B, 48, H, W], [B, 96, H / 2, W / 2], [B, 192, H / 4, W / 4] and [B, 384, H / 8, W / 8].
        """
        level1 = self.encoder_level1(self.patch_embed(image))
        level2 = self.encoder_level2(self.down1_2(level1))
        level3 = self.encoder_level3(self.down2_3(level2))
        return level1, level2, level3, self.encoder_level4(self.down3_4(level3))


class _CrossAttention(nn.Module):
    """Let each image's features be re-collected by the queries of the other's.

    The result is added to the normalised features, not to the raw ones, as in the published network.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_A = nn.GroupNorm(_GROUPS, channels)
        self.norm_B = nn.GroupNorm(_GROUPS, channels)
        self.qkv_A = conv1x1(channels, 3 * channels)
        self.out_A = nn.Conv2d(channels, channels, 1)
        self.qkv_B = conv1x1(channels, 3 * channels)
        self.out_B = nn.Conv2d(channels, channels, 1)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange between two feature maps [B, C, H, W]."""
        a, b = self.norm_A(a), self.norm_B(b)
        query_a, key_a, value_a = self.qkv_A(a).chunk(3, dim=1)
        query_b, key_b, value_b = self.qkv_B(b).chunk(3, dim=1)
        a = a + self.out_A(attend_positions(query_b, key_a, value_a))
        return a, b + self.out_B(attend_positions(query_a, key_b, value_b))


class _SpatialAttention(nn.Module):
    """Self-attention between all positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.qkv = conv1x1(channels, 3 * channels)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, C, H, W]."""
        return x + self.out(attend_positions(*self.qkv(self.norm(x)).chunk(3, dim=1)))


class _SkipFusion(nn.Module):
    """Merge the two encoders' features of one level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fusion_proj = conv1x1(2 * channels, channels)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Merge two maps [B, C, H, W] into one."""
        return self.fusion_proj(torch.cat([a, b], dim=1))


class _PromptGuidance(nn.Module):
    """Scale and shift features by numbers computed from the text feature."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.MLP = nn.Sequential(nn.Linear(FEATURE_SIZE, _HIDDEN), nn.LeakyReLU(0.01), nn.Linear(_HIDDEN, 2 * channels))

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Return ``(1 + gamma) x + beta`` of ``x`` [B, C, H, W]; ``text`` [1 or B, 512]."""
        gamma, beta = self.MLP(text)[..., None, None].chunk(2, dim=1)
        return (1 + gamma) * x + beta


@register("text_if")
class TextIF(PublishedTeacher):
    """The Text-IF network: 63.839230 M parameters, 247.7696 G multiply-adds (thop) at 224x224, both without CLIP.

    Pre- and post-processing follow the official test script: visible and infrared as RGB in 0..1; the resulting RGB
    clamped to 0..1 and stretched, all channels together, from its own minimum and maximum to 0..1. What students are
    compared with is the luma of that. Two differences: the script resizes images to multiples of 16, while this
    teacher keeps their size, by reflection padding to multiples of 8 that is cut off again (before the stretch); and
    the script rounds to 8 bits. Attention and stretch see the whole input, so a crop of the fused image is not the
    fused crop.

    The text feature of the prompt `FUSION_PROMPT` is the buffer ``text_feature``. Beside the official checkpoint a
    file ``text_feature.npy``, ``.pt`` or ``.safetensors`` of shape (1, 512) may hold it; without one it is computed by
    the CLIP inside the checkpoint. It is CLIP ViT-B/32's ``encode_text``, not normalised. The makers' other files
    (``text_fusion.pth``, ``text_fusion_power.pth``) have the same layout and are for further prompts: put the feature
    of such a prompt beside them.
    """

    published = Published(
        summary="Text-IF: Restormer U-Net on RGB, modulated by CLIP's feature of a prompt",
        repository="github.com/XunpengYi/Text-IF",
        licence="MIT",
        files=("simple_fusion.pth",),
    )
    smallest = _STRIDE

    def __init__(self) -> None:
        super().__init__()
        c1, c2, c3, c4 = _WIDTHS
        self.encoder_A, self.encoder_B = _Encoder(), _Encoder()
        self.cross_attention = _CrossAttention(c4)
        self.attention_spatial = _SpatialAttention(c4)
        self.feature_fusion_4, self.prompt_guidance_4 = _SkipFusion(c4), _PromptGuidance(c4)
        self.decoder_level4 = _blocks(c4, _HEADS[3])
        self.feature_fusion_3, self.prompt_guidance_3 = _SkipFusion(c3), _PromptGuidance(c3)
        self.up4_3, self.reduce_chan_level3 = _up(c4), conv1x1(2 * c3, c3)
        self.decoder_level3 = _blocks(c3, _HEADS[2])
        self.feature_fusion_2, self.prompt_guidance_2 = _SkipFusion(c2), _PromptGuidance(c2)
        self.up3_2, self.reduce_chan_level2 = _up(c3), conv1x1(2 * c2, c2)
        self.decoder_level2 = _blocks(c2, _HEADS[1])
        self.feature_fusion_1, self.prompt_guidance_1 = _SkipFusion(c1), _PromptGuidance(c1)
        self.up2_1 = _up(c2)
        self.decoder_level1 = _blocks(2 * c1, _HEADS[0])
        self.refinement = _blocks(2 * c1, _HEADS[0], count=4)
        self.output = conv3x3(2 * c1, 3)
        self.text_feature: Tensor
        self.register_buffer("text_feature", torch.zeros(1, FEATURE_SIZE))

    @classmethod
    def from_weights(cls, weights: Path | None) -> "TextIF":
        """Build the network; see `PublishedTeacher.from_weights` and the class for the text feature.

        Raises:
            MissingRequirementsError: If no weights are named, a file is missing, or there is no text feature.
            student.WeightsError: If a file is damaged or does not fit.
        """
        with _namespaces_allowed():  # the checkpoint also holds the arguments of its training
            return super().from_weights(weights)

    def load_official(self, files: Mapping[str, OfficialFile]) -> None:
        """Load the entry ``model`` and the text feature; see `PublishedTeacher.load_official`."""
        (file,) = files.values()
        state = file.content.get("model")
        if not isinstance(state, Mapping):
            raise WeightsError(f"{file.path} has no state dict under the entry 'model', as Text-IF's checkpoints have.")
        state = check_tensors(state, str(file.path))
        own = {key: value for key, value in state.items() if not bare_name(key).startswith("model_clip.")}
        clip = {key.replace("model_clip.", "", 1): value for key, value in state.items() if key not in own}
        stored = find_feature(file.path.parent)
        if stored is not None:
            feature = read_feature(stored)
            self.checksums[stored.name] = sha256_of(stored)
        elif clip:
            feature = encode_prompt(clip, FUSION_PROMPT, str(file.path))
        else:
            raise MissingRequirementsError(
                f'teacher "text_if": {file.path} does not contain CLIP, and none of {", ".join(FEATURE_FILES)} is '
                f'beside it. Store there what CLIP ViT-B/32 encodes "{FUSION_PROMPT}" to, shape (1, {FEATURE_SIZE}), '
                f"or fetch the whole checkpoint from {self.published.repository}."
            )
        load_part(self, {**own, "text_feature": feature}, str(file.path))

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse a batch of registered pairs, H and W at least 8; see `Teacher.forward`."""
        check_batch(ir=ir, vis=vis, smallest=self.smallest)
        height, width = ir.shape[-2:]
        # Reflection needs more pixels than it adds: at most 7 here.
        margins = (0, -width % _STRIDE, 0, -height % _STRIDE)
        raw = self.forward_raw(ir=F.pad(ir, margins, mode="reflect"), vis=F.pad(vis, margins, mode="reflect"))
        stretched = min_max_stretch(raw[..., :height, :width].clamp(0, 1))
        return rgb_to_luma(stretched).clamp(0, 1)

    def fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse [B, 1, H, W] images in 0..1 as grey RGB; see `Teacher.fuse_luma`."""
        return self(ir=ir, vis=vis.expand(-1, 3, -1, -1))

    def forward_raw(self, *, ir: Tensor, vis: Tensor, text: Tensor | None = None) -> Tensor:
        """Fuse without padding, clamp and stretch.

        Args:
            ir: [B, 1, H, W] in 0..1, H and W multiples of 8; seen as grey RGB.
            vis: RGB, [B, 3, H, W] in 0..1.
            text: Text feature [1 or B, 512]; None is the stored one.

        Returns:
            RGB [B, 3, H, W], not bounded.
        """
        text = self.text_feature if text is None else text
        a1, a2, a3, a4 = self.encoder_A(vis)
        b1, b2, b3, b4 = self.encoder_B(ir.expand(-1, 3, -1, -1))
        x = self.attention_spatial(self.feature_fusion_4(*self.cross_attention(a4, b4)))
        x = self.decoder_level4(self.prompt_guidance_4(x, text))
        x = self.prompt_guidance_3(self.up4_3(x), text)
        x = self.decoder_level3(self.reduce_chan_level3(torch.cat([x, self.feature_fusion_3(a3, b3)], dim=1)))
        x = self.prompt_guidance_2(self.up3_2(x), text)
        x = self.decoder_level2(self.reduce_chan_level2(torch.cat([x, self.feature_fusion_2(a2, b2)], dim=1)))
        x = self.prompt_guidance_1(self.up2_1(x), text)
        x = self.decoder_level1(torch.cat([x, self.feature_fusion_1(a1, b1)], dim=1))
        return self.output(self.refinement(x))


class TextIFWithClip(nn.Module):
    """Text-IF and a CLIP that encodes the prompt in each call: 215.116543 M parameters, 249.7074 G (thop) at 224x224.

    Only for counting, as published tables do; the weights are random.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fusion = TextIF()
        self.model_clip = build_clip()

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse [B, 1, H, W] and [B, 3, H, W], H and W multiples of 8, to RGB [B, 3, H, W], not bounded."""
        text = self.model_clip.encode_text(prompt_tokens(FUSION_PROMPT))
        return self.fusion.forward_raw(ir=ir, vis=vis, text=text)


@contextlib.contextmanager
def _namespaces_allowed() -> Iterator[None]:
    """Let torch.load with weights_only read argparse.Namespace, which holds values and runs no code."""
    before = list(torch.serialization.get_safe_globals())  # in some versions the live list
    torch.serialization.add_safe_globals([argparse.Namespace])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
