import sys

import numpy as np
import pytest

from experiments.studies.schedule_search import search
from fusion_env.errors import MissingRequirementsError

BEST = np.array([0.6, -0.9, 0.2, 0.0])


def searched(kind: str, budget: int = 120, **changes: int) -> tuple[np.ndarray, list[int]]:
    """The points in their order, and how many there were at a time."""
    points, sizes = [], []

    def evaluate(some: list[np.ndarray]) -> list[float]:
        points.extend(some)
        sizes.append(len(some))
        return [-float(((point - BEST) ** 2).sum()) for point in some]

    search(kind, [0.0] * 4, evaluate, budget=budget, population=8, **changes)
    return np.array(points), sizes


@pytest.mark.parametrize("kind", [pytest.param("cma", marks=pytest.mark.slow), "random"])
def test_points_are_in_the_box_and_a_seed_means_the_same(kind: str) -> None:
    if kind == "cma":
        pytest.importorskip("cma")
    before = np.random.get_state()[1].tolist()
    points, sizes = searched(kind, 20)
    assert sizes == [8, 8, 4]
    assert np.abs(points).max() <= 1
    np.testing.assert_array_equal(points, searched(kind, 20)[0])
    assert (points != searched(kind, 20, seed=1)[0]).any()
    np.testing.assert_array_equal(points, searched(kind, 40)[0][:20])
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.slow
def test_cma_moves_to_the_best() -> None:
    pytest.importorskip("cma")
    points, _ = searched("cma")
    distances = ((points - BEST) ** 2).sum(1)
    assert distances[-8:].mean() < 0.1 * distances[:8].mean()


def test_cma_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(MissingRequirementsError, match=r"pip install -e '.\[search\]'. Or choose the search 'random'"):
        searched("cma")
