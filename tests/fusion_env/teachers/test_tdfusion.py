"""TDFusion against the published network, and the blocks that it shares with others against naive versions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.measurements.thop_counts import thop_counts
from fusion_env import teachers
from fusion_env.teachers.restormer import GatedFeedForward, PlainFeedForward, TransformerBlock, attend_channels
from fusion_env.teachers.stretch import min_max_stretch
from fusion_env.teachers.tdfusion import TDFusion
from student.weights import WeightsError, save_state

FILE = "TDFusion_MSRS.pth"


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Fill every parameter, those that start as 0 or 1 included, from a seed; the output does not saturate."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


@pytest.fixture
def teacher(official_files: Callable[[str], Path]) -> TDFusion:
    return teachers.load("tdfusion", official_files("tdfusion"))


class TestAgainstThePublishedNetwork:
    @torch.inference_mode()
    def test_golden_case(self, teacher: TDFusion, reference_dir: Path, device: str) -> None:
        case = np.load(reference_dir / "reference/teachers/tdfusion_caseA.npz")
        vis, ir = torch.from_numpy(case["vi"]).to(device), torch.from_numpy(case["ir"]).to(device)
        raw = teacher.to(device).forward_raw(ir=ir, vis=vis)
        np.testing.assert_allclose(raw.cpu().numpy(), case["output"], rtol=0, atol=2e-5)
        expected = (case["output"] - case["output"].min()) / np.ptp(case["output"])
        np.testing.assert_allclose(teacher(ir, vis.repeat(1, 3, 1, 1)).cpu().numpy(), expected, rtol=0, atol=4e-5)

    def test_size_and_cost(self) -> None:
        with torch.device("meta"):
            network, inputs = TDFusion(), (torch.zeros(1, 1, 224, 224), torch.zeros(1, 3, 224, 224))
        assert sum(p.numel() for p in network.parameters()) == 59_856
        assert thop_counts(network, inputs) == (2_974_433_280, 59_280)


class TestWeights:
    def test_own_state_dict(self, teacher: TDFusion, tmp_path: Path) -> None:
        save_state(teacher.state_dict(), tmp_path / "one.safetensors")
        assert teachers.load("tdfusion", tmp_path / "one.safetensors").fingerprint() == teacher.fingerprint()

    def test_any_of_the_four_files(self, official_files: Callable[[str], Path], tmp_path: Path) -> None:
        (tmp_path / "TDFusion_LLVIP.pth").symlink_to(official_files("tdfusion") / FILE)
        assert teachers.load("tdfusion", tmp_path / "TDFusion_LLVIP.pth").checksums.keys() == {"TDFusion_LLVIP.pth"}

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ("FM.qkv1.weight", r"1 missing keys: FM\.qkv1\.weight; 1 unexpected keys: renamed"),
            ("FM.qkv1.conv.weight", r"140 keys: 1 missing keys: FM\.qkv1\.conv\.weight; 1 unexpected keys: renamed\."),
            ("FM.temperature1", r"1 missing keys: FM\.temperature1; 1 unexpected keys: renamed"),
        ],
    )
    def test_renamed_key(self, official_files: Callable[[str], Path], tmp_path: Path, key: str, message: str) -> None:
        state = torch.load(official_files("tdfusion") / FILE, weights_only=True)
        torch.save({"renamed" if name == key else name: value for name, value in state.items()}, tmp_path / FILE)
        with pytest.raises(WeightsError, match=message) as error:
            teachers.load("tdfusion", tmp_path)
        assert "github.com/HaowenBai/TDFusion" in str(error.value)

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module."])
    def test_saved_from_a_wrapped_network(
        self, official_files: Callable[[str], Path], tmp_path: Path, prefix: str
    ) -> None:
        official = official_files("tdfusion")
        state = torch.load(official / FILE, weights_only=True)
        torch.save({f"{prefix}{name}": value for name, value in state.items()}, tmp_path / FILE)
        assert teachers.load("tdfusion", tmp_path).fingerprint() == teachers.load("tdfusion", official).fingerprint()

    def test_copies_that_differ(self, official_files: Callable[[str], Path], tmp_path: Path) -> None:
        state = torch.load(official_files("tdfusion") / FILE, weights_only=True)
        state["project_in_1.conv.weight"] = state["project_in_1.conv.weight"] + 1
        torch.save(state, tmp_path / FILE)
        with pytest.raises(WeightsError, match=r"'project_in_1\.conv\.weight' must equal 'project_in_1\.weight'"):
            teachers.load("tdfusion", tmp_path)


class TestForward:
    @torch.inference_mode()
    @pytest.mark.parametrize("size", [(64, 64), (65, 71), (97, 64)])
    def test_any_size_spans_the_whole_range(self, size: tuple[int, int]) -> None:
        fused = randomise(TDFusion())(draw(1, 1, *size), draw(1, 3, *size, seed=1))
        assert fused.shape == (1, 1, *size)
        assert (fused.min(), fused.max()) == (0, 1)

    @torch.inference_mode()
    def test_batch_equals_single_calls(self, device: str) -> None:
        teacher = randomise(TDFusion(), seed=1).to(device)
        ir, vis = draw(3, 1, 37, 42).to(device), draw(3, 3, 37, 42, seed=1).to(device)
        ir[2] *= 0.1
        singles = torch.cat([teacher(ir[i : i + 1], vis[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(teacher(ir, vis), singles, rtol=0, atol=1e-5)

    @torch.inference_mode()
    def test_infrared_comes_first(self) -> None:
        teacher = randomise(TDFusion(), seed=2)
        ir, vis = draw(1, 1, 32, 32), draw(1, 1, 32, 32, seed=1)
        before, swapped = teacher.forward_raw(ir=ir, vis=vis), teacher.forward_raw(ir=vis, vis=ir)
        assert (before - swapped).abs().max() > 0.01
        teacher.project_in_1.weight.zero_()
        assert torch.equal(teacher.forward_raw(ir=ir, vis=vis), teacher.forward_raw(ir=1 - ir, vis=vis))


def test_stretch_by_hand() -> None:
    images = torch.tensor([[0.25, 0.75, 0.5], [0.5, 0.5, 0.5], [-1.0, 3.0, 0.0]]).view(3, 3, 1, 1)
    expected = torch.tensor([[0.0, 1.0, 0.5], [0.5, 0.5, 0.5], [0.0, 1.0, 0.25]]).view(3, 3, 1, 1)
    assert torch.equal(min_max_stretch(images), expected)


class TestBlocks:
    def test_attention_against_loops(self) -> None:
        q, k, v = (draw(2, 6, 3, 5, seed=i) - 0.5 for i in range(3))
        temperature = torch.tensor([0.5, 3.0]).view(2, 1, 1)
        expected = torch.zeros_like(v)
        for sample in range(2):
            for i in range(6):
                channels = range(i // 3 * 3, i // 3 * 3 + 3)
                cosines = [
                    float(F.cosine_similarity(q[sample, i].flatten(), k[sample, j].flatten(), 0)) for j in channels
                ]
                weights = torch.tensor([float(temperature[i // 3]) * cosine for cosine in cosines]).softmax(0)
                expected[sample, i] = sum(w * v[sample, j] for w, j in zip(weights, channels, strict=True))
        torch.testing.assert_close(attend_channels(q, k, v, temperature), expected, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("scale", [True, False])
    def test_norm_by_hand(self, scale: bool) -> None:
        block = TransformerBlock(2, 1, PlainFeedForward(2), norm_scale=scale)
        norm = randomise(block.norm1).get_submodule("body")
        x = torch.tensor([[1.0, 5.0], [3.0, 5.0]]).view(1, 2, 1, 2)
        # Position 1: mean 2, biased deviation 1 -> -1, 1; position 2 is constant over the channels.
        unit = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).view(1, 2, 1, 2)
        factor = norm.weight.view(2, 1, 1) if scale else 1
        assert ("weight" in dict(norm.named_parameters())) == scale
        torch.testing.assert_close(norm(x), factor * unit + norm.bias.view(2, 1, 1), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("feed_forward", [GatedFeedForward, PlainFeedForward])
    def test_branches_are_added(self, feed_forward: type[nn.Module]) -> None:
        block = randomise(TransformerBlock(4, 2, feed_forward(4)))
        x = draw(1, 4, 8, 8)
        with torch.no_grad():
            assert not torch.equal(block(x), x)
            block.attn.project_out.weight.zero_()
            block.ffn.project_out.weight.zero_()
            assert torch.equal(block(x), x)
