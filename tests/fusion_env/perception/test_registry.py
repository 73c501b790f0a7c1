from pathlib import Path

import pytest
from torch import Tensor

from fusion_env.errors import UnknownNameError
from fusion_env.perception import FrozenNetwork, feature_networks, load_features, load_quality, quality_scores


class Brightness(FrozenNetwork):
    def __init__(self) -> None:
        super().__init__("mean of the image", {})
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3))


def test_names() -> None:
    assert {"embedded", "vgg19", "vgg19-untrained"} <= set(feature_networks.names())
    assert {"embedded", "clip", "clip-untrained"} <= set(quality_scores.names())


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="unknown feature network 'vgg-19'. Did you mean 'vgg19'"):
        load_features("vgg-19")
    with pytest.raises(UnknownNameError, match="unknown quality score 'clp'. Did you mean 'clip'"):
        load_quality("clp")


def test_a_score_of_ones_own() -> None:
    @quality_scores.register("brightness")
    def build(weights: str | Path | None, model: str | None) -> Brightness:
        return Brightness()

    score = load_quality("brightness")
    assert isinstance(score, Brightness)
    assert score.fingerprint() == Brightness().fingerprint() != load_quality("embedded").fingerprint()
