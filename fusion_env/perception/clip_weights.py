"""CLIP models from open_clip: built with weights from a file, from a published tag, or with random ones."""

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
from torch import Tensor

from fusion_env.errors import ConfigError, MissingRequirementsError, UnknownNameError, unknown_name
from student.weights import WeightsError, load_into, load_state

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_TAG",
    "build_clip",
    "cached_file",
    "load_clip",
    "own_random_state",
    "untrained_clip",
]

DEFAULT_MODEL = "RN50-quickgelu"
DEFAULT_TAG = "openai"

_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")


def load_clip(weights: str | Path | None = None, model: str = DEFAULT_MODEL) -> open_clip.CLIP:
    """Load a CLIP model with trained weights.

    Args:
        weights: File with the state dict of the whole model (PyTorch, safetensors, or the TorchScript archive that
            OpenAI publishes), or a tag of open_clip; None is the tag ``"openai"``.
        model: open_clip's model name.

    Raises:
        ConfigError: If the model is no plain CLIP with CLIP's tokenizer.
        UnknownNameError: If the model is not known, or ``weights`` is neither a file nor a tag of it.
        MissingRequirementsError: If published weights can be neither found nor fetched.
        WeightsError: If the file cannot be read or holds another model.
    """
    _model_config(model)
    source = DEFAULT_TAG if weights is None else str(weights)
    return _from_file(Path(source), model) if Path(source).is_file() else _from_tag(source, model)


def untrained_clip(seed: int = 0, model: str = DEFAULT_MODEL) -> open_clip.CLIP:
    """Build a CLIP model with random weights; the global random state is left as it was.

    Args:
        seed: Seed of the weights.
        model: open_clip's model name.
    """
    with own_random_state(seed):
        return build_clip(model)


def _model_config(model: str) -> dict:
    """Return open_clip's settings of a model that this score can use."""
    config = open_clip.get_model_config(model)
    if config is None:
        raise unknown_name("open_clip model", model, open_clip.list_models())
    others = {"custom_text", "multimodal_cfg"} & config.keys() | {"hf_tokenizer_name"} & config["text_cfg"].keys()
    if others:
        raise ConfigError(
            f"model must be a CLIP with CLIP's own tokenizer, such as {DEFAULT_MODEL!r}. Got {model!r}, which has "
            f"{', '.join(sorted(others))}."
        )
    return config


def build_clip(model: str, quick_gelu: bool = False) -> open_clip.CLIP:
    """Build a model with random weights; ``quick_gelu`` switches that activation on where the name does not."""
    config = _model_config(model)
    config["quick_gelu"] = config.get("quick_gelu", False) or quick_gelu
    return open_clip.CLIP(**config)


def _from_file(path: Path, model: str, quick_gelu: bool = False) -> open_clip.CLIP:
    state = _torchscript_state(path) if _is_torchscript(path) else load_state(path)
    with own_random_state(0):  # the initial values are overwritten
        clip = build_clip(model, quick_gelu)
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
        path = cached_file(published) or _fetch(published)
    except Exception as error:  # each downloader that open_clip may use has exceptions of its own
        places = " or ".join(published[key] for key in ("url", "hf_hub") if published.get(key))
        raise MissingRequirementsError(
            f"the CLIP weights {tag!r} of open_clip's {model} are neither in the cache nor can they be fetched "
            f"({error}). Download them from {places} and give the file (setting iqa_weights, option --clip-weights); "
            "iqa='embedded' needs no download."
        ) from error
    clip = _from_file(path, model, quick_gelu=published.get("quick_gelu", False))
    clip.visual.image_mean, clip.visual.image_std = published.get("mean"), published.get("std")
    return clip


def cached_file(published: Mapping[str, str]) -> Path | None:
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
def own_random_state(seed: int) -> Iterator[None]:
    """Let open_clip initialise from a seed of ours and put the global random state back."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield
