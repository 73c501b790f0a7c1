"""Files that come with the package."""

import pytest

from fusion_env.errors import MissingRequirementsError
from fusion_env.packaged import packaged


@pytest.mark.parametrize("name", ["features", "quality", "start", "surrogate", "teacher"])
def test_weights_are_there_beside_their_card(name: str) -> None:
    with packaged(f"{name}.safetensors") as weights, packaged(f"{name}.md") as card:
        assert weights.stat().st_size > 1000
        assert card.read_text(encoding="utf-8").startswith("# ")


def test_what_is_missing_is_named() -> None:
    with pytest.raises(MissingRequirementsError, match="nosuch, a part of this package, is missing; install"):
        packaged("nosuch").__enter__()
