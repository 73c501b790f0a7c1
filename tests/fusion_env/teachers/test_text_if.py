"""Text-IF against the published network; padding, stretch and luma by hand; where the text feature comes from."""

import argparse
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.measurements.thop_counts import thop_counts
from fusion_env import teachers
from fusion_env.errors import MissingRequirementsError
from fusion_env.teachers.clip_text import build_clip, encode_prompt, find_feature, read_feature
from fusion_env.teachers.published import OfficialFile
from fusion_env.teachers.text_if import FUSION_PROMPT, TextIF, TextIFWithClip, attend_positions
from student.weights import WeightsError

FILE = "simple_fusion.pth"


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def case(reference_dir: Path) -> dict[str, np.ndarray]:
    return dict(np.load(reference_dir / "reference/teachers/text_if_caseA.npz"))


@pytest.fixture(scope="module")
def teacher(
    official_files: Callable[[str], Path], case: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> TextIF:
    folder = tmp_path_factory.mktemp("text_if_with_feature")
    (folder / FILE).symlink_to(official_files("text_if") / FILE)
    np.save(folder / "text_feature.npy", case["text_feature"])
    return teachers.load("text_if", folder)


class TestAgainstThePublishedNetwork:
    @torch.inference_mode()
    def test_golden_case(self, teacher: TextIF, case: dict[str, np.ndarray]) -> None:
        raw = teacher.forward_raw(ir=torch.from_numpy(case["ir"]), vis=torch.from_numpy(case["vi"]))
        np.testing.assert_allclose(raw.numpy(), case["output"], rtol=0, atol=5e-5)

    @pytest.mark.parametrize(
        ("network", "parameters", "cost"),
        [
            (TextIF, 63_839_230, (247_769_649_152, 63_817_632)),
            (TextIFWithClip, 215_116_543, (249_707_417_600, 89_014_176)),
        ],
    )
    def test_size_and_cost(
        self, network: type[TextIF | TextIFWithClip], parameters: int, cost: tuple[int, int]
    ) -> None:
        with torch.device("meta"):
            built, inputs = network(), (torch.zeros(1, 1, 224, 224), torch.zeros(1, 3, 224, 224))
        assert sum(p.numel() for p in built.parameters()) == parameters
        assert thop_counts(built, inputs) == cost


class TestWeights:
    def test_renamed_key(self, teacher: TextIF, tmp_path: Path) -> None:
        state = {("renamed" if key == "output.weight" else key): value for key, value in teacher.state_dict().items()}
        np.save(tmp_path / "text_feature.npy", state.pop("text_feature"))
        with pytest.raises(WeightsError, match=r"1 missing keys: output\.weight; 1 unexpected keys: renamed"):
            teacher.load_official({FILE: OfficialFile(tmp_path / FILE, {"model": state})})

    def test_arguments_of_the_training_are_skipped_and_other_objects_refused(self, tmp_path: Path) -> None:
        np.save(tmp_path / "text_feature.npy", np.zeros((1, 512), np.float32))
        allowed = set(torch.serialization.get_safe_globals())  # their order is not kept
        torch.save({"model": {}, "args": argparse.Namespace(lr=1e-4), "epoch": 3}, tmp_path / FILE)
        with pytest.raises(WeightsError, match=r"357 missing keys.*github.com/XunpengYi/Text-IF"):
            teachers.load("text_if", tmp_path)
        torch.save({"model": {}, "args": open_clip.tokenize}, tmp_path / FILE)
        with pytest.raises(WeightsError, match="refused"):
            teachers.load("text_if", tmp_path)
        assert set(torch.serialization.get_safe_globals()) == allowed

    def test_no_entry_model(self, teacher: TextIF, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="no state dict under the entry 'model'"):
            teacher.load_official({FILE: OfficialFile(tmp_path / FILE, {"state_dict": {}})})

    def test_no_text_feature(self, tmp_path: Path) -> None:
        torch.save({"model": {"output.weight": torch.zeros(3, 96, 3, 3)}}, tmp_path / FILE)
        with pytest.raises(MissingRequirementsError, match=r"does not contain CLIP, and none of text_feature\.npy"):
            teachers.load("text_if", tmp_path)

    def test_without_a_stored_feature_the_checkpoints_clip_is_used(self, teacher: TextIF, tmp_path: Path) -> None:
        state = {"model_clip.visual.proj": torch.zeros(1), "model_clip.ln_final.bias": torch.zeros(512)}
        with pytest.raises(WeightsError, match=r"text side of CLIP does not fit TextTransformer .* 148 missing keys"):
            teacher.load_official({FILE: OfficialFile(tmp_path / FILE, {"model": state})})

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
    def test_saved_from_a_wrapped_network(self, teacher: TextIF, tmp_path: Path, prefix: str) -> None:
        state = dict(teacher.state_dict())
        np.save(tmp_path / "text_feature.npy", state.pop("text_feature"))
        wrapped = {f"{prefix}{key}": value for key, value in state.items()}
        clip = {
            f"{prefix}model_clip.ln_final.bias": torch.zeros(512),
            f"{prefix}model_clip.visual.proj": torch.zeros(1),
        }
        before = teacher.fingerprint()
        teacher.load_official({FILE: OfficialFile(tmp_path / FILE, {"model": {**wrapped, **clip}})})
        assert teacher.fingerprint() == before
        (tmp_path / "text_feature.npy").unlink()
        with pytest.raises(WeightsError, match=r"text side of CLIP does not fit .* 1 unexpected keys: .*ln_final"):
            teacher.load_official({FILE: OfficialFile(tmp_path / FILE, {"model": {**wrapped, **clip}})})


@pytest.mark.slow
def test_prompt_as_the_whole_clip_encodes_it() -> None:
    before = torch.get_rng_state()
    clip = build_clip()
    assert torch.equal(torch.get_rng_state(), before)
    assert len(clip.state_dict()) == 302
    with torch.no_grad():
        clip.text_projection.normal_(generator=torch.Generator().manual_seed(0))
        expected = clip.encode_text(open_clip.tokenize([FUSION_PROMPT]), normalize=False)
    feature = encode_prompt(clip.state_dict(), FUSION_PROMPT, "a file")
    torch.testing.assert_close(feature, expected, rtol=1e-5, atol=1e-4)
    assert feature.std() > 1


class TestStoredFeature:
    def test_code_in_a_feature_is_refused_in_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "text_feature.pt").write_bytes(pickle.dumps(Path("anything"), protocol=4))
        with pytest.raises(WeightsError, match="could run code and are refused") as error:
            read_feature(tmp_path / "text_feature.pt")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("name", ["text_feature.npy", "text_feature.pt", "text_feature.safetensors"])
    def test_formats(self, tmp_path: Path, name: str) -> None:
        feature = draw(1, 512).half()
        path = tmp_path / name
        if path.suffix == ".npy":
            np.save(path, feature)
        elif path.suffix == ".pt":
            torch.save(feature, path)
        else:
            save_file({"feature": feature}, path)
        assert torch.equal(read_feature(path), feature.float())
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(WeightsError, match=name):
            read_feature(path)

    def test_wrong_shape(self, tmp_path: Path) -> None:
        np.save(tmp_path / "text_feature.npy", np.zeros(512))
        with pytest.raises(WeightsError, match=r"of shape \(1, 512\)\. Got torch.float64 \(512,\)"):
            read_feature(tmp_path / "text_feature.npy")

    def test_pickles_are_not_run(self, tmp_path: Path) -> None:
        for name in ("text_feature.npy", "text_feature.pt"):
            (tmp_path / name).write_bytes(pickle.dumps(Path.cwd, protocol=2))
            with pytest.raises(WeightsError, match=name):
                read_feature(tmp_path / name)

    def test_two_files(self, tmp_path: Path) -> None:
        for name in ("text_feature.npy", "text_feature.pt"):
            (tmp_path / name).touch()
        with pytest.raises(WeightsError, match=r"text_feature\.npy and text_feature\.pt; keep one"):
            find_feature(tmp_path)

    @torch.inference_mode()
    def test_it_matters(self, teacher: TextIF) -> None:
        vis, ir = draw(1, 3, 16, 16), draw(1, 1, 16, 16, seed=1)
        other = teacher.forward_raw(ir=ir, vis=vis, text=teacher.text_feature.flip(-1))
        assert (other - teacher.forward_raw(ir=ir, vis=vis)).abs().max() > 0.01


class TestForward:
    @torch.inference_mode()
    def test_padding_stretch_and_luma(self, teacher: TextIF) -> None:
        ir, vis = draw(1, 1, 21, 34), draw(1, 3, 21, 34, seed=1)
        padded = [torch.from_numpy(np.pad(x, ((0, 0), (0, 0), (0, 3), (0, 6)), mode="reflect")) for x in (vis, ir)]
        rgb = teacher.forward_raw(vis=padded[0], ir=padded[1])[..., :21, :34].clamp(0, 1)
        rgb = (rgb - rgb.min()) / (rgb.max() - rgb.min())
        fused = teacher(ir, vis)
        luma = (rgb * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
        torch.testing.assert_close(fused, luma, rtol=0, atol=1e-5)

    @torch.inference_mode()
    def test_batch_equals_single_calls(self, teacher: TextIF) -> None:
        ir, vis = draw(3, 1, 15, 18), draw(3, 3, 15, 18, seed=1)
        vis[1] *= 0.1
        singles = torch.cat([teacher(ir[i : i + 1], vis[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(teacher(ir, vis), singles, rtol=0, atol=2e-5)

    @torch.inference_mode()
    def test_luma_alone_is_grey(self, teacher: TextIF) -> None:
        ir, luma = draw(1, 1, 16, 16), draw(1, 1, 16, 16, seed=1)
        assert torch.equal(teacher.fuse_luma(ir=ir, vis=luma), teacher(ir, luma.repeat(1, 3, 1, 1)))

    def test_too_small(self, teacher: TextIF) -> None:
        with pytest.raises(ValueError, match=r"at least 8 pixels\. Got \(7, 64\)"):
            teacher(torch.zeros(1, 1, 7, 64), torch.zeros(1, 3, 7, 64))


class TestAttention:
    def test_against_the_whole_matrix(self) -> None:
        q, k, v = (draw(2, 24, 5, 7, seed=i) - 0.5 for i in range(3))
        scores = torch.einsum("bcp,bcr->bpr", q.flatten(2), k.flatten(2)) / 24**0.5
        expected = torch.einsum("bpr,bcr->bcp", scores.softmax(-1), v.flatten(2)).view(v.shape)
        torch.testing.assert_close(attend_positions(q, k, v), expected, rtol=0, atol=1e-5)

    def test_does_without_the_matrix(self) -> None:
        q, k, v = draw(1, 1152, 6, 8).chunk(3, dim=1)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # raises if the layout does not fit the kernel
            attend_positions(q, k, v)
