"""CLIP-IQA gives the values of torchmetrics, piq and pyiqa when all share one CLIP."""

import json
from collections.abc import Callable

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_env.perception.clip_iqa import PROMPTS, ClipIqa
from fusion_env.perception.clip_weights import untrained_clip

RESNET = "fusion-env-parity-resnet"
VIT = "fusion-env-parity-vit"
PAIRS = (*PROMPTS["agentfuse"], ("Sharp photo.", "Blurry photo."), ("good", "bad"))
TOLERANCE = {"atol": 1e-5, "rtol": 0.0}


@pytest.fixture(scope="module", autouse=True)
def _small_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("configs")
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    visions = {
        RESNET: {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        VIT: {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    }
    for name, vision in visions.items():
        config = {"embed_dim": 24, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def reproducible_clip(model: str) -> open_clip.CLIP:
    """Build a CLIP whose weights depend on no version of torch, rounded to half as the other packages' loaders do.

    Convolutions keep the signal's size, so that different images have different embeddings.
    """
    clip = untrained_clip(0, model).eval()
    random = np.random.default_rng(0)

    def uniform(low: float, high: float, shape: torch.Size) -> Tensor:
        return torch.from_numpy(random.random(tuple(shape), dtype=np.float32)) * (high - low) + low

    with torch.no_grad():
        for name, tensor in sorted(clip.state_dict().items()):
            if tensor.ndim >= 2:
                fan_in = tensor[0].numel() if tensor.ndim == 4 else tensor.shape[-1]
                tensor.copy_(uniform(-1, 1, tensor.shape) * (6 / fan_in) ** 0.5)
            elif name.endswith("running_var"):
                tensor.copy_(uniform(0.5, 2.0, tensor.shape))
            elif tensor.ndim == 1:
                centre = 1.0 if name.endswith("weight") else 0.0
                tensor.copy_(uniform(centre - 0.3, centre + 0.3, tensor.shape))
        for tensor in clip.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
    return clip


@pytest.fixture(scope="module")
def images() -> Tensor:
    coarse = torch.from_numpy(np.random.default_rng(1).random((3, 3, 6, 9), dtype=np.float32))
    return F.interpolate(coarse, (96, 144), mode="bilinear")


@pytest.fixture(scope="session")
def rn50() -> open_clip.CLIP:
    return reproducible_clip("RN50-quickgelu")


@pytest.fixture(scope="session")
def piq_model(request: pytest.FixtureRequest) -> nn.Module:
    build = pytest.importorskip("piq.feature_extractors.clip").build_model
    return build(dict(request.getfixturevalue("rn50").state_dict())).float().eval()


@pytest.fixture
def torchmetrics_iqa(piq_model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """The metric with our model instead of a downloaded one, and with open_clip's tokenizer."""
    functional = pytest.importorskip("torchmetrics.functional.multimodal.clip_iqa")
    module = pytest.importorskip("torchmetrics.multimodal.clip_iqa")

    class Processor:
        class tokenizer:  # noqa: N801 - the name that torchmetrics reads
            model_max_length = 77

        def __call__(self, text: list[str]) -> dict[str, list[list[int]]]:
            return {"input_ids": [row[row != 0].tolist() for row in open_clip.tokenize(text)]}

    for place in (functional, module):
        monkeypatch.setattr(place, "_get_clip_iqa_model_and_processor", lambda name: (piq_model, Processor()))
    return functional.clip_image_quality_assessment


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_torchmetrics_with_one_pair(
    pair: tuple[str, str], rn50: open_clip.CLIP, torchmetrics_iqa: Callable[..., Tensor], images: Tensor
) -> None:
    score = ClipIqa(rn50, prompts=pair, scale=100.0)(images)
    torch.testing.assert_close(score, torchmetrics_iqa(images, prompts=(pair,)), **TOLERANCE)
    assert score.std() > 1e-3


@pytest.mark.slow
def test_torchmetrics_with_several_pairs(
    rn50: open_clip.CLIP, torchmetrics_iqa: Callable[..., Tensor], images: Tensor
) -> None:
    score = ClipIqa(rn50, prompts=PAIRS)
    theirs = torch.stack(list(torchmetrics_iqa(images, prompts=PAIRS).values()), dim=1)
    torch.testing.assert_close(score.probabilities(images), theirs, **TOLERANCE)
    torch.testing.assert_close(score(images), theirs.mean(dim=1), **TOLERANCE)


def test_piq(rn50: open_clip.CLIP, piq_model: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("piq.clip_iqa")
    monkeypatch.setattr(module.clip, "load", lambda: piq_model)
    monkeypatch.setattr(module, "download_tensor", lambda *_: open_clip.tokenize(list(PROMPTS["clip-iqa"][0])))
    theirs = module.CLIPIQA()(images)[:, 0]
    torch.testing.assert_close(ClipIqa(rn50, prompts=PROMPTS["clip-iqa"], scale=None)(images), theirs, **TOLERANCE)


@pytest.mark.parametrize("positional_embedding", [False, True])
def test_pyiqa(
    positional_embedding: bool, rn50: open_clip.CLIP, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = pytest.importorskip("pyiqa.archs.clipiqa_arch")
    build = pytest.importorskip("pyiqa.archs.clip_model").build_model
    monkeypatch.setattr(arch, "load", lambda *_: build(dict(rn50.state_dict())).float().eval())
    theirs = arch.CLIPIQA(pos_embedding=positional_embedding)(images)[:, 0]
    options = {"positional_embedding": positional_embedding, "interpolation": "table", "scale": None}
    torch.testing.assert_close(ClipIqa(rn50, prompts=PROMPTS["pyiqa"], **options)(images), theirs, **TOLERANCE)


@pytest.mark.parametrize(
    ("model", "positional_embedding", "expected"),
    [
        (RESNET, False, (0.5119519, 0.5056913, 0.4983431)),
        (RESNET, True, (0.5155327, 0.5107298, 0.5038787)),
        (VIT, False, (0.4267272, 0.3280410, 0.2876207)),
        (VIT, True, (0.4595998, 0.3213643, 0.3194314)),
    ],
)
def test_stored_values(model: str, positional_embedding: bool, expected: tuple[float, ...], images: Tensor) -> None:
    """Values of pyiqa 0.1.16 (``CLIPIQA(pos_embedding=...)``) for the same small CLIP, images larger than its own."""
    options = {"positional_embedding": positional_embedding, "interpolation": "table", "scale": None}
    score = ClipIqa(reproducible_clip(model), model, prompts=PROMPTS["pyiqa"], **options)
    torch.testing.assert_close(score(images), torch.tensor(expected), **TOLERANCE)


@pytest.mark.parametrize(("model", "side", "expected"), [(RESNET, 64, 0.5317930), (VIT, 32, 0.2622347)])
def test_stored_values_at_the_models_own_size(model: str, side: int, expected: float, images: Tensor) -> None:
    """Values of pyiqa 0.1.16: here both ways to stretch a table leave it as it is."""
    crop = images[:1, :, :side, :side]
    for interpolation in ("grid", "table"):
        options = {"positional_embedding": True, "interpolation": interpolation, "scale": None}
        score = ClipIqa(reproducible_clip(model), model, prompts=PROMPTS["pyiqa"], **options)
        assert score(crop).item() == pytest.approx(expected, abs=1e-5)
