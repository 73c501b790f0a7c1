"""Networks that judge images: features for the guidance loss (Eq. 1) and scores for image quality (IQA*).

All of them are frozen. Names are resolved here; each network's module is imported when it is asked for.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from fusion_env.errors import ConfigError, unknown_name

__all__ = ["FrozenNetwork", "feature_names", "load_features", "load_quality", "quality_names"]


class FrozenNetwork(nn.Module):
    """Base of the published networks: no trainable parameters, always in evaluation mode, with a fingerprint.

    Feature networks map luma [B, 1, H, W] in 0..1 to a list of tensors, one for each tap. Quality scores map luma or
    RGB [B, 1 or 3, H, W] in 0..1 to [B] scores in 0..1, higher is better.

    Attributes:
        description: What this network is and where its weights are from, in one line.
        settings: JSON-ready values other than weights that the output depends on.
    """

    def __init__(self, description: str, settings: Mapping[str, object]) -> None:
        super().__init__()
        self.description = description
        self.settings = dict(settings)

    def freeze(self) -> "FrozenNetwork":
        """Stop all gradients to parameters and switch to evaluation mode; call it at the end of construction."""
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FrozenNetwork":
        """Stay in evaluation mode, whatever a module that contains this one asks for."""
        return super().train(False)

    def fingerprint(self) -> str:
        """Hash weights and settings to 20 hexadecimal digits; equal networks agree on every device."""
        digest = hashlib.sha256(json.dumps([type(self).__name__, self.settings], sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy())
        return digest.hexdigest()[:20]


def load_features(name: str, weights: str | Path | None = None, taps: str = "before_relu") -> nn.Module:
    """Load the feature network of the guidance loss.

    Args:
        name: ``"embedded"`` (ships with the package), ``"vgg19"`` (the paper's; published weights) or
            ``"vgg19-untrained"`` (fixed random weights, for tests).
        weights: File with weights; None takes the embedded or the published ones.
        taps: Where VGG-19's features are read, ``"before_relu"`` or ``"after_relu"``.

    Returns:
        A frozen network ``net(luma [B, 1, H, W]) -> list of tensors`` with ``description`` and ``fingerprint()``.

    Raises:
        UnknownNameError: If the name is not known.
        MissingRequirementsError: If the weights are not there.
        WeightsError: If the file holds something else.
    """
    if name not in _FEATURES:
        raise unknown_name("feature network", name, _FEATURES)
    return _FEATURES[name](weights, taps)


def load_quality(name: str, weights: str | Path | None = None, model: str | None = None) -> nn.Module:
    """Load the no-reference quality score (IQA*).

    Args:
        name: ``"embedded"`` (ships with the package), ``"clip"`` (CLIP-IQA, published weights) or ``"clip-untrained"``
            (fixed random weights, for tests).
        weights: File with weights or, for ``"clip"``, a tag that open_clip publishes; None takes the embedded or
            OpenAI's.
        model: open_clip's name of the CLIP model; None takes CLIP-IQA's, ``RN50-quickgelu``.

    Returns:
        A frozen network ``score(images [B, 1 or 3, H, W]) -> [B]`` in 0..1, higher is better, with ``description``
        and ``fingerprint()``.

    Raises:
        UnknownNameError: If the name is not known.
        MissingRequirementsError: If the weights are not there.
        WeightsError: If the file holds something else.
    """
    if name not in _QUALITIES:
        raise unknown_name("quality score", name, _QUALITIES)
    return _QUALITIES[name](weights, model)


def feature_names() -> tuple[str, ...]:
    """Return the names that `load_features` knows."""
    return tuple(_FEATURES)


def quality_names() -> tuple[str, ...]:
    """Return the names that `load_quality` knows."""
    return tuple(_QUALITIES)


def _refuse_weights(name: str, weights: str | Path | None, instead: str) -> None:
    if weights is not None:
        raise ConfigError(f"{name!r} takes no weights. Got {str(weights)!r}: leave it unset, or choose {instead!r}.")


def _embedded_features(weights: str | Path | None, taps: str) -> nn.Module:
    from fusion_env.perception.embedded_features import load_embedded_features

    if taps != "before_relu":
        raise ConfigError(f"taps of the embedded network are fixed; only VGG-19 has a choice. Got {taps!r}.")
    return load_embedded_features(weights)


def _vgg19(weights: str | Path | None, taps: str) -> nn.Module:
    from fusion_env.perception.vgg import load_vgg19

    return load_vgg19(weights, taps)


def _vgg19_untrained(weights: str | Path | None, taps: str) -> nn.Module:
    from fusion_env.perception.vgg import untrained_vgg19

    _refuse_weights("vgg19-untrained", weights, "vgg19")
    return untrained_vgg19(taps=taps)


def _embedded_quality(weights: str | Path | None, model: str | None) -> nn.Module:
    from fusion_env.perception.embedded_quality import load_embedded_quality

    if model is not None:
        raise ConfigError(f"the embedded quality score is one network; only 'clip' has models. Got {model!r}.")
    return load_embedded_quality(weights)


def _clip(weights: str | Path | None, model: str | None) -> nn.Module:
    from fusion_env.perception.clip_iqa import DEFAULT_MODEL, load_clip_iqa

    return load_clip_iqa(weights, model or DEFAULT_MODEL)


def _clip_untrained(weights: str | Path | None, model: str | None) -> nn.Module:
    from fusion_env.perception.clip_iqa import DEFAULT_MODEL, untrained_clip_iqa

    _refuse_weights("clip-untrained", weights, "clip")
    return untrained_clip_iqa(model=model or DEFAULT_MODEL)


_FEATURES: dict[str, Callable[[str | Path | None, str], nn.Module]] = {
    "embedded": _embedded_features,
    "vgg19": _vgg19,
    "vgg19-untrained": _vgg19_untrained,
}
_QUALITIES: dict[str, Callable[[str | Path | None, str | None], nn.Module]] = {
    "embedded": _embedded_quality,
    "clip": _clip,
    "clip-untrained": _clip_untrained,
}
