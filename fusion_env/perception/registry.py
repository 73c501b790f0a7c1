"""Feature networks and quality scores by name; each network's module is imported when it is asked for."""

from collections.abc import Callable
from pathlib import Path

from fusion_env.errors import ConfigError
from fusion_env.perception.base import FrozenNetwork
from fusion_env.registry import Registry
from student.numerics import own_numerics

__all__ = ["feature_networks", "load_features", "load_quality", "quality_scores"]

feature_networks: Registry[Callable[[str | Path | None, str], FrozenNetwork]] = Registry("feature network")
"""Builders, called with the weights' file or None, and the taps."""

quality_scores: Registry[Callable[[str | Path | None, str | None], FrozenNetwork]] = Registry("quality score")
"""Builders, called with the weights' file or None, and the model or None."""


@own_numerics()
def load_features(name: str, weights: str | Path | None = None, taps: str = "before_relu") -> FrozenNetwork:
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
    return feature_networks.get(name)(weights, taps)


@own_numerics()
def load_quality(name: str, weights: str | Path | None = None, model: str | None = None) -> FrozenNetwork:
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
    return quality_scores.get(name)(weights, model)


def _refuse_weights(name: str, weights: str | Path | None, instead: str) -> None:
    if weights is not None:
        raise ConfigError(f"{name!r} takes no weights. Got {str(weights)!r}: leave it unset, or choose {instead!r}.")


@feature_networks.register("embedded")
def _embedded_features(weights: str | Path | None, taps: str) -> FrozenNetwork:
    from fusion_env.perception.embedded_features import load_embedded_features

    if taps != "before_relu":
        raise ConfigError(f"taps of the embedded network are fixed; only VGG-19 has a choice. Got {taps!r}.")
    return load_embedded_features(weights)


@feature_networks.register("vgg19")
def _vgg19(weights: str | Path | None, taps: str) -> FrozenNetwork:
    from fusion_env.perception.vgg import load_vgg19

    return load_vgg19(weights, taps)


@feature_networks.register("vgg19-untrained")
def _vgg19_untrained(weights: str | Path | None, taps: str) -> FrozenNetwork:
    from fusion_env.perception.vgg import untrained_vgg19

    _refuse_weights("vgg19-untrained", weights, "vgg19")
    return untrained_vgg19(taps=taps)


@quality_scores.register("embedded")
def _embedded_quality(weights: str | Path | None, model: str | None) -> FrozenNetwork:
    from fusion_env.perception.embedded_quality import load_embedded_quality

    if model is not None:
        raise ConfigError(f"the embedded quality score is one network; only 'clip' has models. Got {model!r}.")
    return load_embedded_quality(weights)


@quality_scores.register("clip")
def _clip(weights: str | Path | None, model: str | None) -> FrozenNetwork:
    from fusion_env.perception.clip_iqa import DEFAULT_MODEL, load_clip_iqa

    return load_clip_iqa(weights, model or DEFAULT_MODEL)


@quality_scores.register("clip-untrained")
def _clip_untrained(weights: str | Path | None, model: str | None) -> FrozenNetwork:
    from fusion_env.perception.clip_iqa import DEFAULT_MODEL, untrained_clip_iqa

    _refuse_weights("clip-untrained", weights, "clip")
    return untrained_clip_iqa(model=model or DEFAULT_MODEL)
