"""DCEvo against the published network, its symmetry, its gates by hand."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.measurements.thop_counts import thop_counts
from fusion_env import teachers
from fusion_env.teachers.dcevo import DCEvo, emphasise, simam
from student.weights import WeightsError, save_state

FILE = "DCEvo_fusion.pth"


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def teacher(official_files: Callable[[str], Path]) -> DCEvo:
    return teachers.load("dcevo", official_files("dcevo"))


class TestAgainstThePublishedNetwork:
    @torch.inference_mode()
    def test_golden_case(self, official_files: Callable[[str], Path], reference_dir: Path, device: str) -> None:
        case = np.load(reference_dir / "reference/teachers/dcevo_caseA.npz")
        teacher = teachers.load("dcevo", official_files("dcevo")).to(device)
        fused = teacher.fuse_luma(
            ir=torch.from_numpy(case["ir"]).to(device), vis=torch.from_numpy(case["vi"]).to(device)
        )
        np.testing.assert_allclose(fused.cpu().numpy(), case["output"], rtol=0, atol=2e-5)

    def test_size_and_cost(self) -> None:
        with torch.device("meta"):
            network, inputs = DCEvo(), (torch.zeros(1, 1, 224, 224), torch.zeros(1, 3, 224, 224))
        assert sum(p.numel() for p in network.parameters()) == 2_004_904
        assert sum(p.numel() for p in network.DE_Encoder.parameters()) == 2_971_624 - 2_004_904
        assert thop_counts(network, inputs) == (149_068_480_512, 2_004_768)


class TestWeights:
    def test_own_state_dict(self, teacher: DCEvo, tmp_path: Path) -> None:
        save_state(teacher.state_dict(), tmp_path / "one.safetensors")
        assert teachers.load("dcevo", tmp_path / "one.safetensors").fingerprint() == teacher.fingerprint()

    def test_renamed_key(self, official_files: Callable[[str], Path], tmp_path: Path) -> None:
        content = torch.load(official_files("dcevo") / FILE, weights_only=True)
        content["DE_Decoder"]["module.renamed"] = content["DE_Decoder"].pop("module.reduce_channel.weight")
        torch.save(content, tmp_path / FILE)
        with pytest.raises(WeightsError, match=r"entry DE_Decoder .* 1 missing keys: reduce_channel\.weight") as error:
            teachers.load("dcevo", tmp_path)
        assert "github.com/Beate-Suy-Zhang/DCEvo" in str(error.value)

    def test_the_names_that_training_saves(self, official_files: Callable[[str], Path], tmp_path: Path) -> None:
        content = torch.load(official_files("dcevo") / FILE, weights_only=True)
        trained = ("DIDF_Encoder", "DIDF_Decoder", "BaseFuseLayer", "DetailFuseLayer")
        torch.save(dict(zip(trained, content.values(), strict=True)), tmp_path / FILE)
        with pytest.raises(WeightsError, match=r"4 missing entries: DE_Decoder, .*; 4 unexpected entries: BaseFuse"):
            teachers.load("dcevo", tmp_path)

    def test_the_variant_guided_by_detection_is_another_network(
        self, official_files: Callable[[str], Path], tmp_path: Path
    ) -> None:
        content = torch.load(official_files("dcevo") / FILE, weights_only=True)
        torch.save({**content, "CA1": {}, "CA3": {}, "CA5": {}}, tmp_path / FILE)
        with pytest.raises(WeightsError, match=r"must have 4 entries: 3 unexpected entries: CA1, CA3, CA5\."):
            teachers.load("dcevo", tmp_path)


class TestForward:
    @torch.inference_mode()
    def test_exact_size_and_range(self, teacher: DCEvo) -> None:
        fused = teacher(draw(1, 1, 33, 38), draw(1, 3, 33, 38, seed=1))
        assert fused.shape == (1, 1, 33, 38)
        assert 0 <= fused.min() < fused.max() <= 1

    @torch.inference_mode()
    def test_symmetric(self, teacher: DCEvo) -> None:
        a, b = draw(1, 1, 16, 24), draw(1, 1, 16, 24, seed=1)
        torch.testing.assert_close(teacher.fuse_luma(ir=b, vis=a), teacher.fuse_luma(ir=a, vis=b), rtol=0, atol=1e-5)

    @torch.inference_mode()
    def test_batch_equals_single_calls(self, teacher: DCEvo) -> None:
        ir, vis = draw(3, 1, 16, 24), draw(3, 3, 16, 24, seed=1)
        ir[1], vis[2] = 0, 0.1 * vis[2]
        singles = torch.cat([teacher(ir[i : i + 1], vis[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(teacher(ir, vis), singles, rtol=0, atol=1e-5)

    @torch.inference_mode()
    def test_mirrored_kernels_give_the_mirrored_picture(self) -> None:
        teacher = DCEvo().eval()
        vis, ir = draw(1, 1, 16, 22), draw(1, 1, 16, 22, seed=1)
        before = teacher.fuse_luma(ir=ir, vis=vis)
        for parameter in teacher.parameters():
            if parameter.ndim == 4:
                parameter.copy_(parameter.flip(-1))
        torch.testing.assert_close(
            teacher.fuse_luma(ir=ir.flip(-1), vis=vis.flip(-1)), before.flip(-1), rtol=0, atol=1e-5
        )


class TestGates:
    def test_emphasis_by_hand(self) -> None:
        # y = sigmoid(0) = 1/2 and sigmoid(log 3) = 3/4; mean 5/8; y^2 / mean = 2/5 and 9/10.
        x = torch.tensor([0.0, math.log(3)]).view(1, 1, 1, 2)
        gated = math.log(3) / (1 + math.exp(-0.9))
        expected = torch.tensor([0.0, gated / (1 + math.exp(-gated))]).view(1, 1, 1, 2)
        torch.testing.assert_close(emphasise(x), expected)

    def test_simam_by_hand(self) -> None:
        # Channel 1: mean 2, squared distances 1, unbiased variance 2. Channel 2 is constant: d = 0.
        x = torch.tensor([[1.0, 3.0], [5.0, 5.0]]).view(1, 2, 1, 2)
        weight = 1 / (1 + math.exp(-(1 / (4 * (2 + 1e-4)) + 0.5)))
        flat = 5 / (1 + math.exp(-0.5))
        expected = torch.tensor([[weight, 3 * weight], [flat, flat]]).view(1, 2, 1, 2)
        torch.testing.assert_close(simam(x), expected)
