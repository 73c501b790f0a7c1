"""CLIP-IQA (Wang, Chan, Loy, arXiv 2207.12396) with the prompt pair of arXiv 2509.02424: the score IQA*.

Image and text embeddings have length one; the score is the probability of the positive prompt under a softmax over
``scale * cosine`` of the two prompts. With a ResNet backbone the attention pooling's positional embedding is left out,
so that the network sees the whole image at its own size.
"""

import contextlib
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import huggingface_hub
import open_clip
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from fusion_env.errors import MissingRequirementsError, UnknownNameError, unknown_name
from fusion_env.perception import FrozenNetwork
from student.checkpoint import WeightsError, load_into, load_state

__all__ = ["NEGATIVE_PROMPT", "POSITIVE_PROMPT", "ClipIqa", "load_clip_iqa", "untrained_clip_iqa"]

POSITIVE_PROMPT = "a clear image with detailed background and salient objects"
NEGATIVE_PROMPT = "an unclear image with minimal details and indistinct objects"
DEFAULT_MODEL = "RN50-quickgelu"
DEFAULT_TAG = "openai"

_RESNET_STRIDE = 32
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")


class ClipIqa(FrozenNetwork):
    """Probability that an image fits the positive rather than the negative prompt.

    Args:
        clip: open_clip's model. Its image tower is taken over; the text tower is used here and not kept.
        model: Its name, for the fingerprint and the description.
        prompts: Positive and negative prompt.
        scale: Factor on the cosines; 100 in CLIP-IQA.
        positional_embedding: Keep the positional embedding of a ResNet's attention pooling. Images are then resized to
            the model's own size, as they always are for other backbones.
        source: Where the weights are from, for the description.

    Raises:
        ValueError: If the scale is not positive.
    """

    def __init__(
        self,
        clip: open_clip.CLIP,
        model: str = DEFAULT_MODEL,
        *,
        prompts: tuple[str, str] = (POSITIVE_PROMPT, NEGATIVE_PROMPT),
        scale: float = 100.0,
        positional_embedding: bool = False,
        source: str = "given weights",
    ) -> None:
        if not scale > 0:
            raise ValueError(f"scale must be positive. Got {scale!r}.")
        own_size = isinstance(clip.visual, ModifiedResNet) and not positional_embedding
        size = None if own_size else _pair(clip.visual.image_size)
        seen = "own size, no positional embedding" if own_size else f"resized to {size[0]} x {size[1]}"
        settings = {"model": model, "prompts": list(prompts), "scale": scale, "size": size}
        super().__init__(f"CLIP-IQA* with {model} ({source}), scale {scale:g}, {seen}", settings)
        self._scale = scale
        self._size = size
        self.register_buffer("text", _embed_prompts(clip, prompts))
        mean = getattr(clip.visual, "image_mean", None) or open_clip.OPENAI_DATASET_MEAN
        std = getattr(clip.visual, "image_std", None) or open_clip.OPENAI_DATASET_STD
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.visual = clip.visual
        self.freeze()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Score images.

        Args:
            images: Luma [B, 1, H, W] (repeated to three channels) or RGB [B, 3, H, W], float, 0..1; sides of 32 pixels
                or more where images are seen at their own size.

        Returns:
            Scores [B], 0..1, higher is better.

        Raises:
            ValueError: If the shape or the type is another one.
        """
        smallest = _RESNET_STRIDE if self._size is None else 1
        if (
            images.ndim != 4
            or images.shape[1] not in (1, 3)
            or min(images.shape[-2:]) < smallest
            or not images.is_floating_point()
        ):
            raise ValueError(
                f"images must be float [B, 1 or 3, H, W] with sides of {smallest} pixels or more. "
                f"Got {images.dtype} {tuple(images.shape)}."
            )
        cosines = F.normalize(self.embed(images), dim=-1) @ self.text.T
        return (self._scale * cosines).softmax(dim=-1)[:, 0]

    def embed(self, images: Tensor) -> Tensor:
        """Return image embeddings [B, D], not normalised, of images as `forward` takes them."""
        if self._size is not None and tuple(images.shape[-2:]) != self._size:
            images = F.interpolate(images, self._size, mode="bicubic", antialias=True).clamp(0, 1)
        normalised = (images - self.mean) / self.std
        return _embed_at_own_size(self.visual, normalised) if self._size is None else self.visual(normalised)


def load_clip_iqa(
    weights: str | Path | None = None,
    model: str = DEFAULT_MODEL,
    *,
    prompts: tuple[str, str] = (POSITIVE_PROMPT, NEGATIVE_PROMPT),
    scale: float = 100.0,
    positional_embedding: bool = False,
) -> ClipIqa:
    """Load CLIP-IQA with trained weights.

    Args:
        weights: File with the state dict of the whole CLIP model (PyTorch, safetensors, or the TorchScript archive that
            OpenAI publishes), or a tag of open_clip; None is the tag ``"openai"``.
        model: open_clip's model name.
        prompts: Positive and negative prompt.
        scale: Factor on the cosines.
        positional_embedding: See `ClipIqa`.

    Raises:
        ValueError: If the model is no plain CLIP with CLIP's tokenizer.
        UnknownNameError: If the model is not known, or ``weights`` is neither a file nor a tag of it.
        MissingRequirementsError: If published weights can be neither found nor fetched.
        WeightsError: If the file cannot be read or holds another model.
    """
    _model_config(model)
    source = DEFAULT_TAG if weights is None else str(weights)
    clip = _from_file(Path(source), model) if Path(source).is_file() else _from_tag(source, model)
    return ClipIqa(clip, model, prompts=prompts, scale=scale, positional_embedding=positional_embedding, source=source)


def untrained_clip_iqa(seed: int = 0, model: str = DEFAULT_MODEL) -> ClipIqa:
    """Build CLIP-IQA with random weights. For tests; its scores mean nothing.

    Args:
        seed: Seed of the weights; the global random state is left as it was.
        model: open_clip's model name.
    """
    with _own_random_state(seed):
        clip = _build(model)
    return ClipIqa(clip, model, source=f"UNTRAINED, seed {seed}")


def _embed_at_own_size(visual: ModifiedResNet, images: Tensor) -> Tensor:
    """Embed images with a ResNet whose attention pooling has no positional embedding; returns [B, D]."""
    features = visual.stem(images)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        features = layer(features)
    positions = features.flatten(2).mT  # [B, h * w, C]
    mean = positions.mean(dim=1, keepdim=True)
    return _attend(visual.attnpool, mean, torch.cat([mean, positions], dim=1))


def _attend(pool: nn.Module, query: Tensor, tokens: Tensor) -> Tensor:
    """Attend from ``query`` [B, 1, C] to ``tokens`` [B, n, C] with the projections of ``pool``; returns [B, D]."""

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)

    attended = F.scaled_dot_product_attention(
        heads(pool.q_proj(query)), heads(pool.k_proj(tokens)), heads(pool.v_proj(tokens))
    )
    return pool.c_proj(attended.transpose(1, 2).flatten(1))


@torch.no_grad()
def _embed_prompts(clip: open_clip.CLIP, prompts: tuple[str, str]) -> Tensor:
    tokens = open_clip.tokenize(list(prompts), context_length=clip.context_length)
    return clip.eval().encode_text(tokens, normalize=True)


def _model_config(model: str) -> dict:
    """Return open_clip's settings of a model that this score can use."""
    config = open_clip.get_model_config(model)
    if config is None:
        raise unknown_name("open_clip model", model, open_clip.list_models())
    others = {"custom_text", "multimodal_cfg"} & config.keys() | {"hf_tokenizer_name"} & config["text_cfg"].keys()
    if others:
        raise ValueError(
            f"model must be a CLIP with CLIP's own tokenizer, such as {DEFAULT_MODEL!r}. Got {model!r}, which has "
            f"{', '.join(sorted(others))}."
        )
    return config


def _build(model: str, quick_gelu: bool = False) -> open_clip.CLIP:
    """Build a model with random weights; ``quick_gelu`` switches that activation on where the name does not."""
    config = _model_config(model)
    config["quick_gelu"] = config.get("quick_gelu", False) or quick_gelu
    return open_clip.CLIP(**config)


def _from_file(path: Path, model: str, quick_gelu: bool = False) -> open_clip.CLIP:
    with _own_random_state(0):  # the initial values are overwritten
        clip = _build(model, quick_gelu)
    state = _torchscript_state(path) if _is_torchscript(path) else load_state(path)
    # Old checkpoints lack the counters of the batch norms, which have no effect in evaluation.
    counters = {name: value for name, value in clip.state_dict().items() if name.endswith("num_batches_tracked")}
    load_into(clip, {**counters, **state}, f"{path} (as open_clip's {model})")
    return clip


def _from_tag(tag: str, model: str) -> open_clip.CLIP:
    published = open_clip.get_pretrained_cfg(model, tag)
    if not published:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(model))
        raise UnknownNameError(
            f"iqa_weights {tag!r} is neither a file nor a tag that open_clip knows for {model!r}. "
            f"Tags: {known or 'none'}"
        )
    try:
        path = _cached_file(published) or _fetch(published)
    except Exception as error:  # each downloader that open_clip may use has exceptions of its own
        places = " or ".join(published[key] for key in ("url", "hf_hub") if published.get(key))
        raise MissingRequirementsError(
            f"the CLIP weights {tag!r} of open_clip's {model} are neither in the cache nor can they be fetched "
            f"({error}). Download them from {places} and set iqa_weights to the file, or choose iqa='embedded', which "
            "needs no download."
        ) from error
    clip = _from_file(path, model, quick_gelu=published.get("quick_gelu", False))
    clip.visual.image_mean, clip.visual.image_std = published.get("mean"), published.get("std")
    return clip


def _cached_file(published: Mapping[str, str]) -> Path | None:
    """Look where open_clip's downloads lie, without the network: asking the hub while offline takes a minute."""
    repository, file = _hub_place(published)
    for name in (file,) if file else _HUB_FILES:
        found = huggingface_hub.try_to_load_from_cache(repository, name) if repository else None
        if isinstance(found, str):
            return Path(found)
    downloaded = Path("~/.cache/clip").expanduser() / Path(published.get("url") or "none").name
    return downloaded if downloaded.is_file() else None


def _fetch(published: Mapping[str, str]) -> Path:
    place = huggingface_hub.constants.ENDPOINT if _hub_place(published)[0] else published["url"]
    with contextlib.suppress(urllib.error.HTTPError):  # an answer of any kind will do
        urllib.request.urlopen(urllib.request.Request(place, method="HEAD"), timeout=20).close()
    return Path(open_clip.download_pretrained(published))


def _hub_place(published: Mapping[str, str]) -> tuple[str, str]:
    """Split open_clip's ``owner/repository/file`` (the file may be empty) into repository and file."""
    repository, _, file = published.get("hf_hub", "").rpartition("/")
    return repository, file


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _torchscript_state(path: Path) -> Mapping[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # OpenAI publishes this format, however old
            state = torch.jit.load(path, map_location="cpu").state_dict()
    except RuntimeError as error:
        raise WeightsError(f"{path} is not a complete TorchScript archive; fetch it again.") from error
    return {name: value.float() for name, value in state.items() if name not in _OPENAI_EXTRAS}


@contextlib.contextmanager
def _own_random_state(seed: int) -> Iterator[None]:
    """Let open_clip initialise from a seed of ours and put the global random state back."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)
