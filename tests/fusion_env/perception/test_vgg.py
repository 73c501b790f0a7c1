"""VGG-19 taps against torchvision's own network with the same random weights."""

import copy
from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models import VGG19_Weights
from torchvision.models.vgg import cfgs, make_layers

from fusion_env.errors import MissingRequirementsError, UnknownNameError
from fusion_env.perception import FrozenNetwork, load_features
from fusion_env.perception.vgg import TAP_LAYERS, VggFeatures, load_vgg19, untrained_vgg19
from student.weights import WeightsError


@pytest.fixture(scope="module")
def torchvision_layers() -> nn.ModuleDict:
    """Build ``vgg19().features`` with non-trivial random weights and biases, from a generator of its own."""
    generator = torch.Generator().manual_seed(11)
    layers = nn.ModuleDict({"features": make_layers(cfgs["E"])}).requires_grad_(False)
    for parameter in layers.parameters():
        spread = (2 / parameter[0].numel()) ** 0.5 if parameter.ndim == 4 else 0.2
        parameter.normal_(0, spread, generator=generator)
    return layers


@pytest.fixture(scope="module")
def state(torchvision_layers: nn.ModuleDict) -> dict[str, Tensor]:
    return torchvision_layers.state_dict()


@pytest.fixture(scope="module")
def luma() -> Tensor:
    return torch.rand(2, 1, 48, 35, generator=torch.Generator().manual_seed(2))


def hooked_features(layers: nn.Module, luma: Tensor, after_relu: bool) -> list[Tensor]:
    """Read torchvision's layers with hooks that copy, so that in-place activations cannot reach what was read."""
    rgb = luma.repeat(1, 3, 1, 1)
    transforms = VGG19_Weights.IMAGENET1K_V1.transforms()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (transforms.mean, transforms.std))
    read: list[Tensor] = []
    hooks = [
        layers[tap + after_relu].register_forward_hook(lambda _module, _inputs, output: read.append(output.clone()))
        for tap in TAP_LAYERS.values()
    ]
    layers((rgb - mean) / std)
    for hook in hooks:
        hook.remove()
    return read


@pytest.mark.parametrize("taps", ["before_relu", "after_relu"])
def test_taps_equal_hooked_torchvision(
    torchvision_layers: nn.ModuleDict, state: dict[str, Tensor], luma: Tensor, taps: str, device: str
) -> None:
    expected = hooked_features(torchvision_layers["features"], luma, taps == "after_relu")
    features = VggFeatures(state, taps).to(device)(luma.to(device))
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (64, 48, 35),
        (128, 24, 17),
        (256, 12, 8),
        (512, 6, 4),
        (512, 3, 2),
    ]
    for got, wanted in zip(features, expected, strict=True):
        torch.testing.assert_close(got.cpu(), wanted, atol=1e-5 if device == "cpu" else 2e-2, rtol=1e-5)
        assert bool((got < 0).any()) == (taps == "before_relu")


def test_luma_receives_a_gradient_and_weights_do_not(state: dict[str, Tensor]) -> None:
    network = VggFeatures(state)
    luma = torch.rand(1, 1, 16, 16, requires_grad=True)
    network(luma)[-1].sum().backward()
    assert luma.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_network_stays_in_evaluation_mode_inside_a_trained_module(state: dict[str, Tensor]) -> None:
    network = VggFeatures(state)
    nn.ModuleList([network]).train()
    assert not any(module.training for module in network.modules())


def test_layers_behind_the_last_tap_are_dropped(state: dict[str, Tensor]) -> None:
    convolutions = [module for module in VggFeatures(state).modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 14


@pytest.mark.parametrize(("suffix", "classifier"), [(".pth", True), (".safetensors", False)])
def test_local_files_load(
    state: dict[str, Tensor], luma: Tensor, tmp_path: Path, suffix: str, classifier: bool
) -> None:
    stored = dict(state)
    if classifier:
        stored["classifier.6.bias"] = torch.zeros(10)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(stored, path)
    else:
        safetensors.torch.save_file(stored, path)
    network = load_features("vgg19", path)
    assert isinstance(network, FrozenNetwork)
    assert str(path) in network.description
    for got, wanted in zip(network(luma), VggFeatures(state)(luma), strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_other_networks_are_refused(state: dict[str, Tensor], tmp_path: Path, change: str) -> None:
    stored = copy.copy(state)
    if change == "missing":
        del stored["features.34.weight"]
    elif change == "unexpected":
        stored["features.1.weight"] = torch.zeros(64)
    else:
        stored["features.0.weight"] = torch.zeros(64, 1, 3, 3)
    torch.save(stored, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth"):
        load_vgg19(tmp_path / "other.pth")


def test_files_of_wrapped_networks_are_read(
    state: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = {**state, "classifier.0.bias": torch.zeros(4096)}
    torch.save({f"module.{name}": tensor for name, tensor in whole.items()}, tmp_path / "wrapped.pth")
    assert load_vgg19(tmp_path / "wrapped.pth").fingerprint() == VggFeatures(state).fingerprint()
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'wrapped.pth'}: module. (DataParallel) in the names of its tensors is left out"
    ]


def test_published_weights_come_from_torchvision(state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        VGG19_Weights, "get_state_dict", lambda self, **_: {**state, "classifier.0.bias": torch.zeros(4096)}
    )
    network = load_features("vgg19")
    assert "IMAGENET1K_V1" in network.description
    assert network.fingerprint() == VggFeatures(state).fingerprint()


def test_missing_published_weights_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(self: VGG19_Weights, **_: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(VGG19_Weights, "get_state_dict", offline)
    with pytest.raises(MissingRequirementsError, match="VGG-19") as caught:
        load_features("vgg19")
    for part in ("no route", "perception_weights", "perception='embedded'", VGG19_Weights.IMAGENET1K_V1.url):
        assert part in str(caught.value)


def test_untrained_is_deterministic_and_says_so() -> None:
    global_state = torch.random.get_rng_state()
    network = load_features("vgg19-untrained")
    assert torch.equal(torch.random.get_rng_state(), global_state)
    assert "UNTRAINED" in network.description
    assert network.fingerprint() == untrained_vgg19(0).fingerprint()
    assert network.fingerprint() != untrained_vgg19(1).fingerprint()
    features = network(torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert all(0.1 < feature.std() < 10 for feature in features)


def test_fingerprint_depends_on_weights_and_taps(state: dict[str, Tensor]) -> None:
    changed = {**state, "features.0.bias": state["features.0.bias"] + 1e-3}
    prints = {network.fingerprint() for network in (VggFeatures(state), VggFeatures(changed))}
    prints.add(VggFeatures(state, "after_relu").fingerprint())
    assert len(prints) == 3


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 32, 32), (1, 1, 15, 40)])
def test_wrong_shapes_are_refused(state: dict[str, Tensor], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"sides of 16 pixels or more. Got \(1, "):
        VggFeatures(state)(torch.zeros(shape))


def test_wrong_settings_are_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="taps must be"):
        VggFeatures(state, "inside_relu")
    with pytest.raises(ValueError, match="only VGG-19 has a choice"):
        load_features("embedded", taps="after_relu")
    with pytest.raises(UnknownNameError, match="'vgg19'"):
        load_features("vgg-19")
    with pytest.raises(ValueError, match="takes no weights"):
        load_features("vgg19-untrained", tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"nowhere\.pth"):
        load_features("vgg19", tmp_path / "nowhere.pth")
