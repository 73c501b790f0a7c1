"""CLIP models from open_clip: built with weights from a file, from a published tag, or with random ones.

A CLIP has GELU or QuickGELU, and its tensors are the same with both. These files tell: OpenAI's archives and state
dicts from them, which hold the numbers ``input_resolution``, ``context_length`` and ``vocab_size`` beside the tensors
(always QuickGELU), and files of a model hub with ``open_clip_config.json`` beside them. What they tell is used whatever
the model's name. For other files open_clip's name decides, that is whether it ends in ``-quickgelu``.
"""

import contextlib
import json
import logging
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import huggingface_hub
import open_clip
import torch
from open_clip.transformer import QuickGELU
from torch import Tensor

from fusion_env.errors import ConfigError, MissingRequirementsError, UnknownNameError, unknown_name
from student.weights import WeightsError, bare_name, check_finite, load_into, load_state

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_TAG",
    "build_clip",
    "cached_file",
    "describe_model",
    "load_clip",
    "own_random_state",
    "untrained_clip",
]

DEFAULT_MODEL = "RN50-quickgelu"
DEFAULT_TAG = "openai"

_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_HUB_CONFIG = "open_clip_config.json"
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
_ACTIVATIONS = {True: "QuickGELU", False: "GELU"}

_logger = logging.getLogger(__name__)


def load_clip(weights: str | Path | None = None, model: str = DEFAULT_MODEL) -> open_clip.CLIP:
    """Load a CLIP model with trained weights.

    Args:
        weights: File with the state dict of the whole model (PyTorch, safetensors, or the TorchScript archive that
            OpenAI publishes), or a tag of open_clip; None is the tag ``"openai"``.
        model: open_clip's model name; it also decides on the activation where the file does not tell.

    Raises:
        ConfigError: If the model is no plain CLIP with CLIP's tokenizer.
        UnknownNameError: If the model is not known, or ``weights`` is neither a file nor a tag of it.
        MissingRequirementsError: If published weights can be neither found nor fetched.
        WeightsError: If the file cannot be read or holds another model; names the right one if open_clip knows it.
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
    if others := _not_plain(config):
        raise ConfigError(
            f"model must be a CLIP with CLIP's own tokenizer, such as {DEFAULT_MODEL!r}. Got {model!r}, which has "
            f"{', '.join(sorted(others))}."
        )
    return config


def _not_plain(config: Mapping) -> set[str]:
    return {"custom_text", "multimodal_cfg"} & config.keys() | {"hf_tokenizer_name"} & config["text_cfg"].keys()


def build_clip(model: str, quick_gelu: bool | None = None) -> open_clip.CLIP:
    """Build a model with random weights; ``quick_gelu`` says which activation, None what open_clip's name says."""
    config = _model_config(model)
    return open_clip.CLIP(**config if quick_gelu is None else {**config, "quick_gelu": quick_gelu})


def describe_model(clip: open_clip.CLIP, model: str) -> str:
    """Return the model's name, with the activation if that is not the one that goes by this name."""
    has_quick_gelu = any(isinstance(part, QuickGELU) for part in clip.modules())
    named = bool((open_clip.get_model_config(model) or {}).get("quick_gelu"))
    return model if has_quick_gelu == named else f"{model} with {_ACTIVATIONS[has_quick_gelu]}"


def _from_file(path: Path, model: str, quick_gelu: bool | None = None) -> open_clip.CLIP:
    content = _torchscript_state(path) if _is_torchscript(path) else load_state(path)
    if quick_gelu is None:
        quick_gelu = _quick_gelu(path, content, model)
    with own_random_state(0):  # the initial values are overwritten
        clip = build_clip(model, quick_gelu)
    # The counters of the batch norms, which old checkpoints lack, have no effect in evaluation.
    counters = {name: value for name, value in clip.state_dict().items() if _is_counter(name)}
    state = {
        name: value
        for name, value in content.items()
        if not _is_counter(name) and bare_name(name) not in _OPENAI_EXTRAS
    }
    try:
        load_into(clip, {**counters, **state}, f"{path} (as open_clip's {model})")
    except WeightsError as error:
        fitting = _fitting_models(state)
        if model in fitting or not fitting:
            raise
        raise WeightsError(
            f"{error} It fits {', '.join(fitting)}: name that model instead (setting iqa_model, option --clip-model)."
        ) from None
    return clip


def _quick_gelu(path: Path, state: Mapping[str, Tensor], model: str) -> bool:
    """Decide on the activation of a file's model, and say so where the name is overruled or may be wrong."""
    named = bool(_model_config(model).get("quick_gelu"))
    told, why = _told_activation(path, state)
    other = f"{model}-quickgelu"
    if told is not None and told != named:
        text = "%s: %s is used, unlike in open_clip's %s: %s"
        _logger.warning(text, path, _ACTIVATIONS[told], model, why)
    elif told is None and not named and other in open_clip.list_models():
        text = "%s: GELU is used, as in open_clip's %s: the file does not tell. If it was trained with QuickGELU, the "
        _logger.warning(text + "model is %s", path, model, other)
    return named if told is None else told


def _told_activation(path: Path, state: Mapping[str, Tensor]) -> tuple[bool | None, str]:
    """Return whether a file's model has QuickGELU, and what tells so; None if nothing does."""
    if any(bare_name(name) in _OPENAI_EXTRAS for name in state):
        return True, "it is one of OpenAI's files"
    config = path.with_name(_HUB_CONFIG)
    if path.name not in _HUB_FILES or not config.is_file():
        return None, ""
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))["model_cfg"]
        return bool(settings.get("quick_gelu")), f"{_HUB_CONFIG} says so"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{config} is damaged ({error}), which tells the activation of {path.name}: fetch it again or remove it."
        ) from error


def _fitting_models(state: Mapping[str, Tensor]) -> list[str]:
    """List the models of open_clip with tensors of these names and shapes."""
    shapes = {bare_name(name): value.shape for name, value in state.items()}
    fitting = []
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        if _not_plain(config) or "timm_model_name" in config["vision_cfg"]:
            continue
        if (config["text_cfg"]["width"], config["embed_dim"]) != shapes.get("text_projection"):  # saves time
            continue
        with own_random_state(0), torch.device("meta"):
            own = open_clip.CLIP(**config).state_dict()
        if {key: value.shape for key, value in own.items() if not _is_counter(key)} == shapes:
            fitting.append(name)
    return fitting


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


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
    clip = _from_file(path, model, any(source.get("quick_gelu") for source in (published, _model_config(model))))
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
    check_finite(state, str(path))
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


@contextlib.contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Let open_clip initialise from a seed of ours and put the global random state back."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield
