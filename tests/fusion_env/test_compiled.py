"""A compiled round is the plain one but for rounding, and what cannot be compiled says which setting to change."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from fusion_env.action import LossWeights
from fusion_env.compiled import compiled
from fusion_env.config import DistillConfig
from fusion_env.degradation import Degradation
from fusion_env.errors import ConfigError
from fusion_env.perception.embedded_features import load_embedded_features
from fusion_env.task import build_task

MakeConfig = Callable[..., DistillConfig]
ACTIONS = [(LossWeights(0.5, 0.5), Degradation(3, 60, 0.1, 0.1, 0.02)), (LossWeights(1.0, 0.0), Degradation())]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace forward and backward as for a GPU, and run what was traced as it is."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("change", [{}, {"detach_original": False}, {"feature_cache_mib": 0, "capture": "on"}])
def test_rounds(change: dict[str, object], tiny_config: MakeConfig) -> None:
    plain, fused = (
        build_task(tiny_config(iterations=3, compiled=on, **change)).new_engine(1, 2) for on in (False, True)
    )
    for action in ACTIONS:  # two more rounds turn a difference of 1e-7 in the weights into one of 1e-3 in the losses
        one, other = plain.run_round(*action), fused.run_round(*action)
        assert other.total == pytest.approx(one.total, rel=1e-4)
        assert other.update_norm == pytest.approx(one.update_norm, rel=1e-2)


@pytest.mark.slow
def test_matrices_of_filters_are_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def backend(module: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        names.extend(str(node.target) for node in module.graph.nodes)
        return module.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    network, luma = load_embedded_features(), torch.rand(1, 1, 32, 40)
    for one, other in zip(compiled(network)(luma), network(luma), strict=True):
        assert torch.equal(one, other)
    assert any("conv2d" in name for name in names)
    assert not any("zeros" in name or "arange" in name for name in names)


def test_what_cannot_be_compiled_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise torch._dynamo.exc.TorchDynamoException("no compiler\nand much more")

    monkeypatch.setattr(torch, "compile", lambda network, **kwargs: fails)
    with pytest.raises(ConfigError, match=r"Identity cannot be compiled \(no compiler\): set compiled=False"):
        compiled(torch.nn.Identity())(torch.ones(1))
