"""CLIP-IQA against open_clip's own pooling and towers, on a small CLIP with random weights."""

import io
import json
import logging
import urllib.request
import warnings
from pathlib import Path
from urllib.error import URLError

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_env.errors import ConfigError, MissingRequirementsError, UnknownNameError
from fusion_env.perception import FrozenNetwork, clip_iqa, clip_weights, load_quality
from fusion_env.perception.clip_iqa import (
    NEGATIVE_PROMPT,
    POSITIVE_PROMPT,
    ClipIqa,
    load_clip_iqa,
    untrained_clip_iqa,
)
from student.weights import WeightsError, save_state

RESNET = "fusion-env-test-resnet"
VIT = "fusion-env-test-vit"
PLAIN, QUICK = "fusion-env-test-pair", "fusion-env-test-pair-quickgelu"
SOFT = 2.0  # a random CLIP has cosines far apart, and scale 100 would saturate its scores
OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture(scope="module", autouse=True)
def _small_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("configs")
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    resnet = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    vit = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16}
    for name, vision, quick in ((RESNET, resnet, True), (VIT, vit, True), (PLAIN, vit, False), (QUICK, vit, True)):
        config = {"embed_dim": 24, "quick_gelu": quick, "vision_cfg": vision, "text_cfg": text}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def random_clip(model: str, seed: int = 0) -> open_clip.CLIP:
    """Build a CLIP whose batch norms are non-trivial and whose convolutions keep the signal's size.

    A freshly made one would hide mistakes: its image embeddings hardly depend on the image.
    """
    with clip_weights.own_random_state(seed):
        clip = clip_weights.build_clip(model).eval()
        with torch.no_grad():
            for module in clip.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight)
                elif isinstance(module, nn.BatchNorm2d):
                    for tensor, low, high in (
                        (module.weight, 0.5, 1.5),
                        (module.bias, -0.3, 0.3),
                        (module.running_mean, -0.3, 0.3),
                        (module.running_var, 0.5, 2.0),
                    ):
                        tensor.uniform_(low, high)
    return clip


@pytest.fixture(scope="module")
def clip() -> open_clip.CLIP:
    return random_clip(RESNET)


@pytest.fixture(scope="module")
def images() -> Tensor:
    coarse = torch.rand(4, 3, 8, 11, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, (70, 99), mode="bicubic").clamp(0, 1)


def normalised(images: Tensor) -> Tensor:
    return (images - torch.tensor(OPENAI_MEAN).view(3, 1, 1)) / torch.tensor(OPENAI_STD).view(3, 1, 1)


def test_prompts_are_those_of_the_paper() -> None:
    tokens = open_clip.tokenize([POSITIVE_PROMPT, NEGATIVE_PROMPT])
    assert (tokens != 0).sum(1).tolist() == [12, 13]


@torch.no_grad()
def test_pooling_equals_open_clip_when_the_positional_embedding_is_kept(clip: open_clip.CLIP) -> None:
    pool = clip.visual.attnpool
    features = torch.randn(3, 256, 2, 2, generator=torch.Generator().manual_seed(4))
    tokens = features.flatten(2).mT
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + pool.positional_embedding
    torch.testing.assert_close(clip_iqa.attend(pool, tokens[:, :1], tokens), pool(features), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_embedding_equals_open_clip_with_the_positional_embedding_set_to_zero(images: Tensor, device: str) -> None:
    score = ClipIqa(random_clip(RESNET), RESNET).to(device)
    reference = random_clip(RESNET)
    square = images[..., :64, :64]
    with_position = reference.encode_image(normalised(square))
    reference.visual.attnpool.positional_embedding.zero_()
    expected = reference.encode_image(normalised(square))
    got = score.embed(square.to(device)).cpu()
    torch.testing.assert_close(got, expected, atol=1e-5 if device == "cpu" else 2e-2, rtol=1e-4)
    assert (with_position - expected).norm() > 0.005 * expected.norm()


@torch.no_grad()
@pytest.mark.parametrize("scale", [SOFT, 5.0])
def test_score_is_the_probability_of_the_positive_prompt(images: Tensor, scale: float) -> None:
    clip = random_clip(RESNET)
    clip.visual.attnpool.positional_embedding.zero_()
    square = images[..., :64, :64]
    picture = F.normalize(clip.encode_image(normalised(square)), dim=-1)
    positive, negative = F.normalize(clip.encode_text(open_clip.tokenize([POSITIVE_PROMPT, NEGATIVE_PROMPT])), dim=-1)
    expected = torch.sigmoid(scale * (picture @ positive - picture @ negative))
    scores = ClipIqa(clip, RESNET, scale=scale)(square)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)
    assert scores.std() > 1e-3


def test_swapped_prompts_give_the_complement(images: Tensor) -> None:
    scores = ClipIqa(random_clip(RESNET), RESNET, scale=SOFT)(images)
    swapped = ClipIqa(random_clip(RESNET), RESNET, scale=SOFT, prompts=(NEGATIVE_PROMPT, POSITIVE_PROMPT))(images)
    torch.testing.assert_close(scores + swapped, torch.ones(4))


def test_batch_equals_single_images(clip: open_clip.CLIP, images: Tensor) -> None:
    score = ClipIqa(clip, RESNET, scale=SOFT)
    together = score(images)
    assert together.shape == (4,)
    assert together.dtype == torch.float32
    singles = torch.cat([score(image[None]) for image in images])
    torch.testing.assert_close(together, singles, atol=1e-5, rtol=1e-5)


def test_luma_is_repeated_and_colour_counts(clip: open_clip.CLIP, images: Tensor) -> None:
    score = ClipIqa(clip, RESNET, scale=SOFT)
    luma = images[:, :1]
    torch.testing.assert_close(score(luma), score(luma.repeat(1, 3, 1, 1)))
    assert not torch.allclose(score(luma), score(images), atol=1e-3)


def test_whole_image_is_seen_at_its_own_size(clip: open_clip.CLIP, images: Tensor) -> None:
    score = ClipIqa(clip, RESNET, scale=SOFT)
    assert not torch.allclose(score(images), score(images[..., :64, :64]), atol=1e-3)
    with pytest.raises(ValueError, match=r"32 pixels or more\. Got torch.float32 \(4, 3, 31, 99\)"):
        score(images[..., :31, :])


@torch.no_grad()
@pytest.mark.parametrize(("model", "side"), [(RESNET, 64), (VIT, 32)])
def test_resized_to_the_models_own_size(model: str, side: int, images: Tensor) -> None:
    clip = random_clip(model)
    expected = clip.encode_image(normalised(images[..., :side, :side]))
    score = ClipIqa(clip, model, positional_embedding=True, resize="model")
    assert f"resized to {side} x {side}" in score.description
    torch.testing.assert_close(score.embed(images[..., :side, :side]), expected)
    shrunk = F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(score(images), score(shrunk))
    own_size = ClipIqa(random_clip(model), model, positional_embedding=True)
    assert "own size" in own_size.description
    torch.testing.assert_close(own_size.embed(images[..., :side, :side]), expected)
    assert not torch.allclose(own_size.embed(images), score.embed(images), rtol=1e-2)


@torch.no_grad()
def test_stretched_positions_keep_their_places() -> None:
    """A table that is linear in row and column stays so in the middle of a larger grid; the first token stays."""
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    table = torch.cat([torch.tensor([[7.0, -7.0]]), torch.stack([rows, columns], -1).flatten(0, 1)])
    stretched = clip_iqa.stretch_positions(table, (8, 8), (16, 24), "grid")
    assert stretched[0].tolist() == [7.0, -7.0]
    grid = stretched[1:].unflatten(0, (16, 24))
    expected_row = (torch.arange(16) + 0.5) / 2 - 0.5
    expected_column = (torch.arange(24) + 0.5) / 3 - 0.5
    torch.testing.assert_close(grid[4:12, 10, 0], expected_row[4:12])
    torch.testing.assert_close(grid[5, 6:18, 1], expected_column[6:18])


def test_several_pairs_give_the_mean_of_their_probabilities(clip: open_clip.CLIP, images: Tensor) -> None:
    pairs = (("Good photo.", "Bad photo."), ("sharp", "blurry"), (POSITIVE_PROMPT, NEGATIVE_PROMPT))
    score = ClipIqa(clip, RESNET, scale=SOFT, prompts=pairs)
    singles = torch.stack([ClipIqa(clip, RESNET, scale=SOFT, prompts=pair)(images) for pair in pairs], dim=1)
    torch.testing.assert_close(score.probabilities(images), singles)
    torch.testing.assert_close(score(images), singles.mean(dim=1))
    assert "3 prompt pairs" in score.description


def test_scale_none_is_the_models_own(images: Tensor) -> None:
    clip = random_clip(RESNET)
    with torch.no_grad():
        clip.logit_scale.fill_(1.5)
    assert torch.equal(
        ClipIqa(clip, RESNET, scale=None)(images), ClipIqa(clip, RESNET, scale=float(torch.tensor(1.5).exp()))(images)
    )


def test_text_tower_is_dropped_and_nothing_is_trained(images: Tensor) -> None:
    score = ClipIqa(random_clip(RESNET), RESNET)
    assert {name for name, _ in score.named_children()} == {"visual"}
    assert not any(parameter.requires_grad for parameter in score.parameters())
    assert not score(images.clone().requires_grad_()).requires_grad
    score.train()
    assert not any(module.training for module in score.modules())


def test_local_checkpoint_round_trip(images: Tensor, tmp_path: Path) -> None:
    clip = random_clip(RESNET)
    expected = ClipIqa(random_clip(RESNET), RESNET)
    save_state(clip.state_dict(), tmp_path / "clip.safetensors")
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    for file in ("clip.safetensors", "clip.pt"):
        score = load_clip_iqa(tmp_path / file, RESNET)
        assert torch.equal(score.embed(images), expected.embed(images))
        assert torch.equal(score(images), expected(images))
        assert score.fingerprint() == expected.fingerprint()
        assert file in score.description


class _Node(nn.Module):
    """Stands in for one level of OpenAI's archive."""


def write_archive(state: dict[str, Tensor], path: Path) -> None:
    """Write a TorchScript archive as OpenAI publishes it: float16, and three numbers beside the tensors."""
    root = _Node()
    numbers = {"input_resolution": 64, "context_length": 77, "vocab_size": 49408}
    for key, value in {**state, **{name: torch.tensor(number) for name, number in numbers.items()}}.items():
        *folders, leaf = key.split(".")
        node = root
        for folder in folders:
            if folder not in dict(node.named_children()):
                node.add_module(folder, _Node())
            node = node.get_submodule(folder)
        node.register_buffer(leaf, value.half() if value.is_floating_point() else value)
    torch.jit.script(root).save(path)


@pytest.mark.filterwarnings("ignore:.torch.jit.script.:FutureWarning")
@pytest.mark.parametrize("counted", [True, False])
def test_torchscript_archive_as_openai_publishes_it(images: Tensor, tmp_path: Path, counted: bool) -> None:
    clip = random_clip(RESNET)
    state = {key: value for key, value in clip.state_dict().items() if counted or "num_batches" not in key}
    write_archive(state, tmp_path / "RN50.pt")
    for parameter in clip.parameters():
        parameter.data = parameter.data.half().float()
    for buffer in clip.buffers():
        buffer.data = buffer.data.half().float() if buffer.is_floating_point() else buffer.data
    expected = ClipIqa(clip, RESNET)
    loaded = load_clip_iqa(tmp_path / "RN50.pt", RESNET)
    assert torch.equal(loaded.embed(images), expected.embed(images))
    assert torch.equal(loaded.text, expected.text)


def test_counters_of_batches_do_not_matter(clip: open_clip.CLIP, tmp_path: Path) -> None:
    expected = ClipIqa(random_clip(RESNET), RESNET).fingerprint()
    state = random_clip(RESNET).state_dict()
    torch.save({key: value.float() for key, value in state.items()}, tmp_path / "float.pt")
    torch.save({key: value for key, value in state.items() if "num_batches" not in key}, tmp_path / "none.pt")
    for file in ("float.pt", "none.pt"):
        assert load_clip_iqa(tmp_path / file, RESNET).fingerprint() == expected


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    state = {**random_clip(VIT).state_dict(), "logit_scale": torch.tensor(float("nan"))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_archive(state, tmp_path / "nan.pt")
    with pytest.raises(WeightsError, match=r"nan\.pt: NaN or infinite values in 1 of"):
        load_clip_iqa(tmp_path / "nan.pt", VIT)


class TestActivation:
    """Nothing in the tensors tells GELU from QuickGELU: what else a file has does, or the model's name."""

    @pytest.fixture
    def state(self) -> dict[str, Tensor]:
        return {key: value.half().float() for key, value in random_clip(PLAIN).state_dict().items()}

    @pytest.fixture
    def expected(self, state: dict[str, Tensor]) -> dict[str, ClipIqa]:
        """The score with either activation."""
        scores = {}
        for name in (PLAIN, QUICK):
            clip = random_clip(name)
            clip.load_state_dict(state)
            scores[name] = ClipIqa(clip, name)
        assert not torch.allclose(scores[PLAIN].text, scores[QUICK].text, atol=1e-3)
        return scores

    @pytest.mark.filterwarnings("ignore:.torch.jit.script.:FutureWarning")
    @pytest.mark.parametrize("kind", ["archive", "its state dict", "of a wrapped network"])
    @pytest.mark.parametrize("model", [PLAIN, QUICK])
    def test_openais_files_have_quick_gelu_whatever_the_name(
        self,
        state: dict[str, Tensor],
        expected: dict[str, ClipIqa],
        images: Tensor,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        kind: str,
        model: str,
    ) -> None:
        path = tmp_path / "ViT.pt"
        if kind == "archive":
            write_archive(state, path)
        else:
            prefix = "module." if kind == "of a wrapped network" else ""
            extras = {**state, "input_resolution": torch.tensor(32), "context_length": torch.tensor(77)}
            torch.save({f"{prefix}{key}": value for key, value in extras.items()}, path)
        score = load_clip_iqa(path, model)
        assert torch.equal(score.text, expected[QUICK].text)
        assert torch.equal(score(images), expected[QUICK](images))
        said = [record.getMessage() for record in caplog.records if "GELU" in record.getMessage()]
        if model == PLAIN:
            assert said == [f"{path}: QuickGELU is used, unlike in open_clip's {PLAIN}: it is one of OpenAI's files"]
            assert f"{PLAIN} with QuickGELU" in score.description
        else:
            assert not said
            assert score.fingerprint() == expected[QUICK].fingerprint()

    def test_a_state_dict_does_not_tell_so_that_the_name_decides_and_it_is_said(
        self, state: dict[str, Tensor], expected: dict[str, ClipIqa], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "clip.pt"
        torch.save(state, path)
        assert load_clip_iqa(path, QUICK).fingerprint() == expected[QUICK].fingerprint()
        assert not caplog.records
        assert load_clip_iqa(path, PLAIN).fingerprint() == expected[PLAIN].fingerprint()
        assert [record.getMessage() for record in caplog.records] == [
            f"{path}: GELU is used, as in open_clip's {PLAIN}: the file does not tell. If it was trained with "
            f"QuickGELU, the model is {QUICK}"
        ]

    @pytest.mark.parametrize("quick", [True, False])
    @pytest.mark.parametrize("model", [PLAIN, QUICK])
    def test_the_hubs_configuration_beside_it_tells(
        self,
        state: dict[str, Tensor],
        expected: dict[str, ClipIqa],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        quick: bool,
        model: str,
    ) -> None:
        path = tmp_path / "open_clip_model.safetensors"
        save_state(state, path)
        config = {"model_cfg": {"embed_dim": 24, **({"quick_gelu": True} if quick else {})}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
        assert torch.equal(load_clip_iqa(path, model).text, expected[QUICK if quick else PLAIN].text)
        assert len(caplog.records) == (quick != (model == QUICK))
        assert all("open_clip_config.json says so" in record.getMessage() for record in caplog.records)

    @pytest.mark.parametrize(("flag", "name"), [({"quick_gelu": True}, QUICK), ({}, PLAIN)])
    def test_a_tag_tells(
        self,
        state: dict[str, Tensor],
        expected: dict[str, ClipIqa],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        flag: dict[str, bool],
        name: str,
    ) -> None:
        save_state(state, tmp_path / "published.safetensors")
        monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: {"url": "nowhere", **flag})
        monkeypatch.setattr(clip_weights, "_fetch", lambda published: tmp_path / "published.safetensors")
        assert torch.equal(load_clip_iqa("some tag", PLAIN).text, expected[name].text)
        assert not caplog.records

    def test_a_damaged_configuration_is_named(self, state: dict[str, Tensor], tmp_path: Path) -> None:
        save_state(state, tmp_path / "open_clip_model.safetensors")
        (tmp_path / "open_clip_config.json").write_text("[]")
        with pytest.raises(WeightsError, match=r"open_clip_config\.json .* activation"):
            load_clip_iqa(tmp_path / "open_clip_model.safetensors", PLAIN)

    def test_equal_weights_with_another_activation_are_another_network(self) -> None:
        quick = ClipIqa(random_clip(QUICK), PLAIN)
        assert quick.fingerprint() != ClipIqa(random_clip(PLAIN), PLAIN).fingerprint()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_right_model_is_named(tmp_path: Path, prefix: str) -> None:
    state = random_clip(VIT).state_dict()
    torch.save({f"{prefix}{key}": value for key, value in state.items()}, tmp_path / "vit.pt")
    with pytest.raises(WeightsError, match=rf"It fits {PLAIN}, {QUICK}, {VIT}: name that model .* iqa_model"):
        load_clip_iqa(tmp_path / "vit.pt", RESNET)


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    state = random_clip(RESNET).state_dict()
    del state["visual.attnpool.c_proj.weight"]
    torch.save(state, tmp_path / "part.pt")
    with pytest.raises(WeightsError, match=r"part\.pt .* missing keys: visual\.attnpool\.c_proj\.weight"):
        load_clip_iqa(tmp_path / "part.pt", RESNET)
    (tmp_path / "text.pt").write_text("not weights")
    with pytest.raises(WeightsError, match=r"text\.pt"):
        load_clip_iqa(tmp_path / "text.pt", RESNET)


def test_published_tag_is_fetched_once_and_its_statistics_are_used(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = random_clip(RESNET)
    save_state(clip.state_dict(), tmp_path / "published.safetensors")
    entry = {"url": "https://example.invalid/published.safetensors", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: entry if tag == "openai" else {})
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_args, **_settings: io.BytesIO())
    monkeypatch.setattr(open_clip, "download_pretrained", lambda published: str(tmp_path / "published.safetensors"))
    score = load_clip_iqa(model=RESNET)
    half = torch.full((1, 3, 64, 64), 0.5)
    clip.visual.attnpool.positional_embedding.data.zero_()
    with torch.no_grad():
        torch.testing.assert_close(score.embed(half), clip.encode_image(torch.zeros_like(half)), atol=1e-6, rtol=1e-5)


def test_unreachable_weights_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_args: object, **_settings: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(clip_weights, "cached_file", lambda published: None)
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(MissingRequirementsError) as caught:
        load_quality("clip")
    for part in ("'openai'", "RN50-quickgelu", "no route", "RN50.pt", "iqa_weights", "iqa='embedded'"):
        assert part in str(caught.value)


def test_downloads_of_the_past_are_found_without_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"url": "https://example.invalid/models/RN50.pt", "hf_hub": "nobody/nothing/"}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert clip_weights.cached_file(entry) is None
    (tmp_path / ".cache" / "clip").mkdir(parents=True)
    (tmp_path / ".cache" / "clip" / "RN50.pt").touch()
    assert clip_weights.cached_file(entry) == tmp_path / ".cache" / "clip" / "RN50.pt"


def test_wrong_names_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'opnai' is neither a file nor a tag .*openai"):
        load_quality("clip", "opnai")
    with pytest.raises(UnknownNameError, match="RN50-quickgelu"):
        load_clip_iqa(model="RN50-quikgelu")
    with pytest.raises(ValueError, match="hf_tokenizer_name"):
        load_clip_iqa(model="ViT-B-16-SigLIP")
    with pytest.raises(UnknownNameError, match="'clip'"):
        load_quality("clp")
    with pytest.raises(ValueError, match="takes no weights"):
        load_quality("clip-untrained", tmp_path / "clip.pt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.0}, "scale must be positive. Got 0.0"),
        ({"resize": "224"}, "resize must be None .* or 'model'. Got '224'"),
        ({"interpolation": "linear"}, "interpolation must be 'grid' or 'table'. Got 'linear'"),
        ({"prompts": ()}, "at least one pair"),
        ({"prompts": ("good", "bad", "ugly")}, "must be pairs .* Got 'good'"),
        ({"prompts": (("good", "bad", "ugly"),)}, "must be pairs"),
        ({"prompts": ("good", "")}, "must be pairs"),
        ({"prompts": ("good", "bad " * 80)}, "shorter than 75 tokens"),
    ],
)
def test_wrong_options_are_explained(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipIqa(random_clip(RESNET), RESNET, **options)


def test_other_backbones_take_their_own_size_only() -> None:
    clip = random_clip(RESNET)
    clip.visual = nn.Flatten()
    with pytest.raises(ConfigError, match="resize must be 'model' for Flatten, .* Got None"):
        ClipIqa(clip, RESNET)
    with pytest.raises(ConfigError, match="positional_embedding cannot be switched off for Flatten"):
        ClipIqa(clip, RESNET, resize="model", positional_embedding=False)


def test_fingerprint_depends_on_weights_and_every_setting() -> None:
    variants = [
        ClipIqa(random_clip(RESNET), RESNET),
        ClipIqa(random_clip(RESNET, seed=1), RESNET),
        ClipIqa(random_clip(RESNET), RESNET, scale=50.0),
        ClipIqa(random_clip(RESNET), RESNET, prompts=("Good photo.", "Bad photo.")),
        ClipIqa(random_clip(RESNET), RESNET, positional_embedding=True),
        ClipIqa(random_clip(RESNET), RESNET, positional_embedding=True, interpolation="table"),
        ClipIqa(random_clip(RESNET), RESNET, resize="model"),
    ]
    assert len({score.fingerprint() for score in variants}) == len(variants)
    assert variants[0].fingerprint() == ClipIqa(random_clip(RESNET), RESNET).fingerprint()


def test_untrained_is_deterministic_and_leaves_the_global_state_alone() -> None:
    state = torch.random.get_rng_state()
    prints = [untrained_clip_iqa(seed, RESNET).fingerprint() for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert prints[0] == prints[1] != prints[2]


def test_registered_untrained_score_is_the_published_architecture(images: Tensor) -> None:
    handlers = list(logging.getLogger().handlers)
    score = load_quality("clip-untrained")
    assert logging.getLogger().handlers == handlers
    assert isinstance(score, FrozenNetwork)
    assert "RN50-quickgelu (UNTRAINED" in score.description
    assert "scale 100" in score.description
    assert score.text.shape == (2, 1024)
    assert sum(parameter.numel() for parameter in score.visual.parameters()) == 38_316_896
    scores = score(images[:2, :1, :64, :64])
    assert scores.shape == (2,)
    assert ((scores > 0) & (scores < 1)).all()


def test_the_model_is_a_setting() -> None:
    score = load_quality("clip-untrained", model=RESNET)
    assert RESNET in score.description
    assert score.fingerprint() == untrained_clip_iqa(model=RESNET).fingerprint()
    with pytest.raises(ConfigError, match="only 'clip' has models"):
        load_quality("embedded", model=RESNET)
