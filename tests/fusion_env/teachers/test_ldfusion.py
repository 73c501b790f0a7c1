"""LDFusion against the published network: golden output from files in the official layout, size, cost."""

import copy
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.measurements.thop_counts import thop_counts
from fusion_env import teachers
from fusion_env.data.pairs import ImagePair
from fusion_env.errors import MissingRequirementsError
from fusion_env.teachers.ldfusion import AdaptiveInstanceNorm, LDFusion
from student.weights import WeightsError, save_state


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def official_files(reference_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in the layout of the official checkpoint, with the golden case's weights."""
    source = reference_dir / "reference/teachers/make_checkpoint.py"
    spec = importlib.util.spec_from_file_location("make_checkpoint", source)
    make_checkpoint = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_checkpoint)
    folder = tmp_path_factory.mktemp("ldfusion")
    make_checkpoint.write("ldfusion", 1000, folder)
    return folder


@pytest.fixture(scope="module")
def teacher() -> LDFusion:
    return LDFusion().eval().requires_grad_(False)


class TestAgainstThePublishedNetwork:
    @torch.inference_mode()
    def test_golden_case(self, official_files: Path, reference_dir: Path, device: str) -> None:
        case = np.load(reference_dir / "reference/teachers/ldfusion_caseA.npz")
        teacher = teachers.load("ldfusion", official_files).to(device)
        vis, ir = torch.from_numpy(case["vi"]).to(device), torch.from_numpy(case["ir"]).to(device)
        raw = teacher.forward_raw(ir=ir, vis=vis)
        np.testing.assert_allclose(raw.cpu().numpy(), case["output"], rtol=0, atol=2e-5)
        cropped = raw[..., :96, :128]  # twice the same on CUDA can differ in the last digits
        torch.testing.assert_close(
            teacher.fuse_luma(ir=ir, vis=vis), cropped, rtol=0, atol=0 if device == "cpu" else 2e-5
        )

    @pytest.mark.parametrize("shape", [(1, 64, 48), (2, 35, 61), (1, 16, 16)])
    def test_inference_mode_changes_nothing(self, shape: tuple[int, int, int]) -> None:
        teacher = teachers.load("embedded")
        batch, height, width = shape
        ir, vis = draw(batch, 1, height, width), draw(batch, 1, height, width, seed=1)
        with torch.no_grad():
            expected = teacher.forward_signed(ir=ir, vis=vis)
        with torch.inference_mode():
            torch.testing.assert_close(teacher.forward_signed(ir=ir, vis=vis), expected, rtol=0, atol=1e-5)

    def test_keys_and_shapes(self, teacher: LDFusion, reference_dir: Path) -> None:
        manifest = json.loads((reference_dir / "reference/teachers/ldfusion.json").read_text())
        published = {f"{g['name']}.{key}": tuple(shape) for g in manifest["groups"] for key, shape, _ in g["keys"]}
        assert {key: tuple(value.shape) for key, value in teacher.state_dict().items()} == published

    def test_parameters(self, teacher: LDFusion) -> None:
        assert sum(p.numel() for p in teacher.parameters()) == 5_776_977

    def test_cost(self, teacher: LDFusion) -> None:
        inputs = torch.zeros(1, 1, 224, 224), torch.zeros(1, 3, 224, 224)
        assert thop_counts(copy.deepcopy(teacher), inputs) == (13_088_082_336, 5_776_529)


class TestWeights:
    @torch.inference_mode()
    def test_every_layout_loads_the_same(self, official_files: Path, tmp_path: Path) -> None:
        expected = teachers.load("ldfusion", official_files)
        save_state(expected.state_dict(), tmp_path / "one.safetensors")
        for source in (official_files / "Enc_final.pt", tmp_path / "one.safetensors"):
            assert teachers.load("ldfusion", source).fingerprint() == expected.fingerprint()

    @pytest.mark.parametrize("given", [None, "nowhere", "empty"])
    def test_missing(self, tmp_path: Path, given: str | None) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(MissingRequirementsError) as error:
            teachers.load("ldfusion", None if given is None else tmp_path / given)
        for part in ("Enc_final.pt", "Dec_final.pt", "github.com/wyhlaowang/LDFusion", "teacher_weights", "embedded"):
            assert part in str(error.value)

    def test_one_of_two_files(self, official_files: Path, tmp_path: Path) -> None:
        shutil.copy(official_files / "Enc_final.pt", tmp_path)
        with pytest.raises(MissingRequirementsError, match=r"has no Dec_final\.pt\."):
            teachers.load("ldfusion", tmp_path)

    def test_swapped_files(self, official_files: Path, tmp_path: Path) -> None:
        shutil.copy(official_files / "Enc_final.pt", tmp_path / "Dec_final.pt")
        shutil.copy(official_files / "Dec_final.pt", tmp_path / "Enc_final.pt")
        with pytest.raises(WeightsError, match=r"Enc_final.pt does not fit _Encoder \(52 tensors\): 52 missing keys"):
            teachers.load("ldfusion", tmp_path)

    def test_embedded_takes_no_weights(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r'"embedded" takes no weights.*teacher="ldfusion"'):
            teachers.load("embedded", tmp_path)

    @torch.inference_mode()
    def test_embedded(self) -> None:
        teacher = teachers.load("embedded")
        assert teacher.name == "embedded"
        fused = teacher(torch.full((1, 1, 64, 64), 0.5), torch.full((1, 3, 64, 64), 0.5))
        assert fused.shape == (1, 1, 64, 64)


class TestForward:
    @torch.inference_mode()
    def test_luma_is_fused(self, teacher: LDFusion, device: str) -> None:
        teacher = copy.deepcopy(teacher).to(device)
        ir, rgb = draw(2, 1, 33, 47).to(device), draw(2, 3, 33, 47, seed=1).to(device)
        luma = (rgb * torch.tensor([0.299, 0.587, 0.114], device=device).view(3, 1, 1)).sum(1, keepdim=True)
        fused = teacher(ir, rgb)
        assert fused.shape == ir.shape
        torch.testing.assert_close(fused, teacher.forward_raw(ir=ir, vis=luma)[..., :33, :47], rtol=0, atol=2e-5)

    @torch.inference_mode()
    def test_pair(self, teacher: LDFusion) -> None:
        ir, rgb = (draw(1, 33, 47) * 255).byte(), (draw(3, 33, 47, seed=1) * 255).byte()
        fused = teacher.fuse_pair(ImagePair("x", ir, rgb))
        assert fused.shape == (1, 33, 47)
        assert torch.equal(fused, teacher(ir[None] / 255, rgb[None] / 255)[0])

    @pytest.mark.parametrize("vis", [(1, 1, 32, 32), (1, 3, 32, 40), (2, 3, 32, 32), (3, 32, 32)])
    def test_wrong_shapes(self, teacher: LDFusion, vis: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"vis must be RGB of shape \(1, 3, 32, 32\)"):
            teacher(torch.zeros(1, 1, 32, 32), torch.zeros(vis))
        with pytest.raises(ValueError, match="ir must have shape"):
            teacher(torch.zeros(1, 32, 32), torch.zeros(1, 3, 32, 32))

    @torch.inference_mode()
    def test_samples_do_not_see_their_neighbours(self, teacher: LDFusion) -> None:
        vis, ir = draw(3, 1, 32, 40), draw(3, 1, 32, 40, seed=1)
        before = teacher.forward_signed(ir=ir, vis=vis)[1]
        vis[0], ir[2] = 0.0, 5.0
        assert torch.equal(teacher.forward_signed(ir=ir, vis=vis)[1], before)

    def test_nothing_is_kept_from_forward(self) -> None:
        teacher = LDFusion()
        before = {name: set(vars(module)) for name, module in teacher.named_modules()}
        buffers = {name: buffer.clone() for name, buffer in teacher.named_buffers()}
        teacher.forward_signed(ir=draw(1, 1, 16, 16), vis=draw(1, 1, 16, 16)).sum().backward()
        assert {name: set(vars(module)) for name, module in teacher.named_modules()} == before
        assert all(torch.equal(value, buffers[name]) for name, value in teacher.named_buffers())
        assert not any(isinstance(value, Tensor) for module in teacher.modules() for value in vars(module).values())
        copy.deepcopy(teacher)

    def test_trains_under_autocast(self, device: str) -> None:
        teacher = LDFusion().to(device)
        with torch.autocast(device, torch.bfloat16):
            signed = teacher.forward_signed(ir=draw(2, 1, 24, 24, seed=1).to(device), vis=draw(2, 1, 24, 24).to(device))
        signed.float().square().mean().backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in teacher.parameters())
        assert teacher.Dec.mlp.model[4].weight.grad.abs().max() > 0
        assert teacher.Enc.style_encoder2.model[1].weight.grad.abs().max() > 0


class TestAdaptiveInstanceNorm:
    @pytest.mark.parametrize("batch", [1, 2])
    def test_gradients_in_channels_last_order(self, batch: int, device: str) -> None:
        # PyTorch's own gradient is another one for a view of one sample on a CPU.
        x, weight = (draw(batch, 3, 5, 6, seed=seed).to(device) for seed in (0, 1))
        shift, scale = (draw(batch, 3, seed=seed).to(device) for seed in (2, 3))

        def gradient(layout: torch.memory_format) -> Tensor:
            start = x.clone().requires_grad_()
            out = AdaptiveInstanceNorm(3)(start.to(memory_format=layout), shift, scale)
            out.backward(weight.to(memory_format=layout))
            return start.grad

        wanted, ours = gradient(torch.contiguous_format), gradient(torch.channels_last)
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5)

    def test_by_hand(self) -> None:
        x = torch.tensor([[1.0, 3.0], [5.0, 5.0]]).view(2, 1, 1, 2)
        out = AdaptiveInstanceNorm(1)(x, torch.tensor([[0.5], [0.25]]), torch.tensor([[2.0], [3.0]]))
        # Sample 1: mean 2, biased deviation 1 -> -1, 1 -> 2 x + 0.5. Sample 2 is constant: the shift alone.
        torch.testing.assert_close(out.flatten(1), torch.tensor([[-1.5, 2.5], [0.25, 0.25]]), rtol=0, atol=5e-4)
