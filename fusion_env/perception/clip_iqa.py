"""CLIP-IQA (Wang, Chan, Loy, arXiv 2207.12396) with the prompt pair of arXiv 2509.02424: the score IQA*.

Image and text embeddings have length one; the score is the probability of the positive prompt under a softmax over
``scale * cosine`` of the two prompts, and with several prompt pairs the mean of their probabilities. The network sees
the whole image at its own size; a ResNet's attention pooling then does without its positional embedding.

Published implementations differ in four settings, all of them arguments of `ClipIqa`. With the same CLIP:

- torchmetrics ``clip_iqa``: ``prompts=PROMPTS["clip-iqa"]`` (its default), ``scale=100``.
- piq ``CLIPIQA``: the same prompts, ``scale=None`` (the model's own, which is 100 in OpenAI's weights).
- pyiqa ``clipiqa``: ``prompts=PROMPTS["pyiqa"]``, ``scale=None``; its ``pos_embedding=True`` is
  ``positional_embedding=True, interpolation="table"``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import open_clip
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from fusion_env.errors import ConfigError
from fusion_env.perception.base import FrozenNetwork
from fusion_env.perception.clip_weights import (
    DEFAULT_MODEL,
    DEFAULT_TAG,
    describe_model,
    load_clip,
    untrained_clip,
)

__all__ = [
    "NEGATIVE_PROMPT",
    "POSITIVE_PROMPT",
    "PROMPTS",
    "ClipIqa",
    "PromptPair",
    "attend",
    "load_clip_iqa",
    "stretch_positions",
    "untrained_clip_iqa",
]

PromptPair = tuple[str, str]
"""What a good and what a bad image is called."""

POSITIVE_PROMPT = "a clear image with detailed background and salient objects"
NEGATIVE_PROMPT = "an unclear image with minimal details and indistinct objects"
PROMPTS: dict[str, tuple[PromptPair, ...]] = {
    "agentfuse": ((POSITIVE_PROMPT, NEGATIVE_PROMPT),),
    "clip-iqa": (("Good photo.", "Bad photo."),),
    "pyiqa": (
        ("Good image", "bad image"),
        ("Sharp image", "blurry image"),
        ("sharp edges", "blurry edges"),
        ("High resolution image", "low resolution image"),
        ("Noise-free image", "noisy image"),
    ),
}
"""Published prompt pairs: of arXiv 2509.02424, of arXiv 2207.12396 (torchmetrics, piq), and of the pyiqa package."""

_RESNET_STRIDE = 32


class ClipIqa(FrozenNetwork):
    """Probability that an image fits a positive rather than a negative prompt, the mean over the prompt pairs.

    Args:
        clip: open_clip's model. Its image tower is taken over; the text tower is used here and not kept.
        model: Its name, for the fingerprint and the description; they say so if the activation is another one.
        prompts: One pair (positive, negative) or several; see `PROMPTS`.
        scale: Factor on the cosines, 100 in CLIP-IQA; None takes the model's own, ``exp(logit_scale)``.
        positional_embedding: Whether the image tower knows where in the image a feature is. None is off for ResNets,
            where only the attention pooling has it and CLIP-IQA leaves it out, and on for all others.
        interpolation: How a table of positional embeddings is stretched (bicubic) for an image that is not of the
            model's size: ``"grid"`` over height and width, or ``"table"``, which like pyiqa and piq treats tokens x
            channels as one picture.
        resize: None scores images at their own size, ``"model"`` resizes them to the model's first (bicubic,
            antialiased, without keeping the aspect ratio). A vision transformer cuts its image into patches and
            ignores what is left at the right and the bottom.
        source: Where the weights are from, for the description.

    Attributes:
        smallest_side: Smallest height and width of images in pixels.

    Raises:
        ValueError: If an option is out of range or a prompt is too long.
        ConfigError: If the backbone cannot do what is asked.
    """

    text: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        clip: open_clip.CLIP,
        model: str = DEFAULT_MODEL,
        *,
        prompts: PromptPair | Sequence[PromptPair] = PROMPTS["agentfuse"],
        scale: float | None = 100.0,
        positional_embedding: bool | None = None,
        interpolation: Literal["grid", "table"] = "grid",
        resize: Literal["model"] | None = None,
        source: str = "given weights",
    ) -> None:
        pairs = _checked_prompts(prompts)
        scale = float(clip.logit_scale.detach().exp()) if scale is None else scale
        _check_options(scale, interpolation, resize)
        positions = _checked_positions(clip.visual, positional_embedding, resize)
        size = _pair(clip.visual.image_size) if resize else None
        model = describe_model(clip, model)
        settings = {
            "model": model,
            "prompts": [list(pair) for pair in pairs],
            "scale": scale,
            "positional_embedding": positions,
            "interpolation": interpolation,
            "size": size,
        }
        seen = f"resized to {size[0]} x {size[1]}" if size else "own size"
        located = "" if positions else ", no positional embedding"
        count = f"{len(pairs)} prompt pairs, " if len(pairs) > 1 else ""
        super().__init__(f"CLIP-IQA* with {model} ({source}), {count}scale {scale:g}, {seen}{located}", settings)
        self._scale = scale
        self._size = size
        self._positions = positions
        self._interpolation = interpolation
        self.smallest_side = 1 if size else _smallest_side(clip.visual)
        self.register_buffer("text", _embed_prompts(clip, pairs))
        mean = getattr(clip.visual, "image_mean", None) or open_clip.OPENAI_DATASET_MEAN
        std = getattr(clip.visual, "image_std", None) or open_clip.OPENAI_DATASET_STD
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.visual = clip.visual
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        """Score images.

        Args:
            images: Luma [B, 1, H, W] (repeated to three channels) or RGB [B, 3, H, W], float, 0..1, with sides of
                `smallest_side` or more: 32 pixels (ResNet) or one patch (vision transformer) at their own size.

        Returns:
            Scores [B], 0..1, higher is better.

        Raises:
            ValueError: If the shape or the type is another one.
        """
        return self.probabilities(images).mean(dim=1)

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probability of each pair's positive prompt, [B, pairs], for images as `forward` takes them."""
        if (
            images.ndim != 4
            or images.shape[1] not in (1, 3)
            or min(images.shape[-2:]) < self.smallest_side
            or not images.is_floating_point()
        ):
            raise ValueError(
                f"images must be float [B, 1 or 3, H, W] with sides of {self.smallest_side} pixels or more. "
                f"Got {images.dtype} {tuple(images.shape)}."
            )
        cosines = F.normalize(self.embed(images), dim=-1) @ self.text.T
        return (self._scale * cosines).unflatten(-1, (-1, 2)).softmax(dim=-1)[..., 0]

    def embed(self, images: Tensor) -> Tensor:
        """Return image embeddings [B, D], not normalised, of images as `forward` takes them."""
        if self._size is not None and tuple(images.shape[-2:]) != self._size:
            images = F.interpolate(images, self._size, mode="bicubic", antialias=True).clamp(0, 1)
        normalised = (images - self.mean) / self.std
        interpolation = self._interpolation if self._positions else None
        if isinstance(self.visual, ModifiedResNet):
            return _embed_with_resnet(self.visual, normalised, interpolation)
        if isinstance(self.visual, VisionTransformer):
            return _embed_with_transformer(self.visual, normalised, interpolation)
        return self.visual(normalised)


def load_clip_iqa(
    weights: str | Path | None = None,
    model: str = DEFAULT_MODEL,
    *,
    prompts: PromptPair | Sequence[PromptPair] = PROMPTS["agentfuse"],
    scale: float | None = 100.0,
    positional_embedding: bool | None = None,
    interpolation: Literal["grid", "table"] = "grid",
    resize: Literal["model"] | None = None,
) -> ClipIqa:
    """Load CLIP-IQA with trained weights.

    Args:
        weights: File with the state dict of the whole CLIP model (PyTorch, safetensors, or the TorchScript archive that
            OpenAI publishes), or a tag of open_clip; None is the tag ``"openai"``.
        model: open_clip's model name; see `fusion_env.perception.clip_weights` for how the activation is known.
        prompts: See `ClipIqa`, as for all that follow.
        scale: Factor on the cosines; None is the model's own.
        positional_embedding: None is as published.
        interpolation: ``"grid"`` or ``"table"``.
        resize: None or ``"model"``.

    Raises:
        ValueError: If an option is out of range.
        ConfigError: If the model is no plain CLIP with CLIP's tokenizer, or cannot do what is asked.
        UnknownNameError: If the model is not known, or ``weights`` is neither a file nor a tag of it.
        MissingRequirementsError: If published weights can be neither found nor fetched.
        WeightsError: If the file cannot be read or holds another model.
    """
    return ClipIqa(
        load_clip(weights, model),
        model,
        prompts=prompts,
        scale=scale,
        positional_embedding=positional_embedding,
        interpolation=interpolation,
        resize=resize,
        source=DEFAULT_TAG if weights is None else str(weights),
    )


def untrained_clip_iqa(seed: int = 0, model: str = DEFAULT_MODEL) -> ClipIqa:
    """Build CLIP-IQA with random weights. For tests; its scores mean nothing.

    Args:
        seed: Seed of the weights; the global random state is left as it was.
        model: open_clip's model name.
    """
    return ClipIqa(untrained_clip(seed, model), model, source=f"UNTRAINED, seed {seed}")


def _checked_prompts(prompts: PromptPair | Sequence[PromptPair]) -> tuple[PromptPair, ...]:
    """Return the prompts as pairs, whether one or several were given."""
    single = len(prompts) == 2 and all(isinstance(item, str) for item in prompts)
    pairs = cast(Sequence[PromptPair], (prompts,) if single else prompts)
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(text, str) and text.strip() for text in pair):
            raise ValueError(f"prompts must be pairs (positive, negative) of texts. Got {pair!r} in {prompts!r}.")
    if not pairs:
        raise ValueError("prompts must hold at least one pair (positive, negative). Got none.")
    return tuple((positive, negative) for positive, negative in pairs)


def _check_options(scale: float, interpolation: str, resize: str | None) -> None:
    if not scale > 0:
        raise ValueError(f"scale must be positive. Got {scale!r}.")
    if interpolation not in ("grid", "table"):
        raise ValueError(f"interpolation must be 'grid' or 'table'. Got {interpolation!r}.")
    if resize not in (None, "model"):
        raise ValueError(f"resize must be None (score images at their own size) or 'model'. Got {resize!r}.")


def _checked_positions(visual: nn.Module, wanted: bool | None, resize: str | None) -> bool:
    """Return whether the image tower uses its positional embedding, or say why it cannot do what is asked."""
    kind = type(visual).__name__
    if not isinstance(visual, ModifiedResNet | VisionTransformer):
        if wanted is False:
            raise ConfigError(f"positional_embedding cannot be switched off for {kind}. Got {wanted!r}.")
        if resize is None:
            raise ConfigError(f"resize must be 'model' for {kind}, which takes images of one size. Got {resize!r}.")
    return not isinstance(visual, ModifiedResNet) if wanted is None else wanted


def _smallest_side(visual: Any) -> int:
    return _RESNET_STRIDE if isinstance(visual, ModifiedResNet) else max(visual.patch_size)


def _embed_with_resnet(visual: ModifiedResNet, images: Tensor, interpolation: str | None) -> Tensor:
    """Embed images of any size with a ResNet, without positional embedding if there is no interpolation; [B, D]."""
    features = visual.stem(images)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        features = layer(features)
    positions = features.flatten(2).mT  # [B, h * w, C]
    tokens = torch.cat([positions.mean(dim=1, keepdim=True), positions], dim=1)
    if interpolation is not None:
        table = visual.attnpool.positional_embedding
        side = round((len(table) - 1) ** 0.5)
        tokens = tokens + stretch_positions(table, (side, side), tuple(features.shape[-2:]), interpolation)
    return attend(visual.attnpool, tokens[:, :1], tokens)


def _embed_with_transformer(visual: VisionTransformer, images: Tensor, interpolation: str | None) -> Tensor:
    """Embed images of any size with a vision transformer, without positional embedding if there is no interpolation."""
    grid = (images.shape[-2] // visual.patch_size[0], images.shape[-1] // visual.patch_size[1])
    table = visual.positional_embedding
    if interpolation is None:
        table = torch.zeros_like(table[:1])
    else:
        table = stretch_positions(table, tuple(visual.grid_size), grid, interpolation)
    return torch.func.functional_call(visual, {"positional_embedding": table}, (images,))


def stretch_positions(table: Tensor, own: tuple[int, int], grid: tuple[int, int], interpolation: str) -> Tensor:
    """Stretch embeddings [1 + h * w, C] of grid ``own``, the first of a pooled or class token, to another grid."""
    if grid == own:
        return table
    if interpolation == "table":
        return F.interpolate(table[None, None], (1 + grid[0] * grid[1], table.shape[1]), mode="bicubic")[0, 0]
    planes = table[1:].mT.unflatten(1, own)[None]
    stretched = F.interpolate(planes, grid, mode="bicubic", antialias=True)
    return torch.cat([table[:1], stretched[0].flatten(1).mT])


def attend(pool: Any, query: Tensor, tokens: Tensor) -> Tensor:
    """Attend from ``query`` [B, 1, C] to ``tokens`` [B, n, C] with the projections of ``pool``; returns [B, D]."""

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)

    attended = F.scaled_dot_product_attention(
        heads(pool.q_proj(query)), heads(pool.k_proj(tokens)), heads(pool.v_proj(tokens))
    )
    return pool.c_proj(attended.transpose(1, 2).flatten(1))


@torch.no_grad()
def _embed_prompts(clip: open_clip.CLIP, pairs: Sequence[PromptPair]) -> Tensor:
    """Return embeddings of length one, positive and negative prompt in turn, [2 * pairs, D]."""
    prompts = [text for pair in pairs for text in pair]
    tokens = open_clip.tokenize(prompts, context_length=clip.context_length)
    for prompt, row in zip(prompts, tokens, strict=True):
        if row[-1] != 0:  # the tokenizer cuts long texts without a word
            raise ValueError(f"prompts must be shorter than {clip.context_length - 2} tokens. Got {prompt!r}.")
    return clip.eval().encode_text(tokens, normalize=True)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
