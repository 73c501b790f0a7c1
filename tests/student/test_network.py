"""The student against the published network: golden output, size, cost; and what training relies on."""

import copy
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from experiments.measurements.thop_counts import thop_counts
from student.network import MIN_SIZE, ContentEncoder, FusionStudent, SampleLayerNorm, _FusedNorm, _ParallelNorm
from student.weights import load_student


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def published_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """The LayerNorm of the published networks, written as its definition."""
    std, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
    return gamma.view(1, -1, 1, 1) * (x - mean) / (std + 1e-5) + beta.view(1, -1, 1, 1)


@pytest.fixture(scope="module")
def official_student(reference_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> FusionStudent:
    """The student with the golden case's weights, read from a file in the official layout."""
    source = reference_dir / "reference/teachers/make_checkpoint.py"
    spec = importlib.util.spec_from_file_location("make_checkpoint", source)
    make_checkpoint = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_checkpoint)
    (path,), _ = make_checkpoint.write("agentfuse", 1000, tmp_path_factory.mktemp("agentfuse"))
    return load_student(path)


class TestAgainstThePublishedNetwork:
    @torch.inference_mode()
    def test_golden_case(self, official_student: FusionStudent, reference_dir: Path, device: str) -> None:
        case = np.load(reference_dir / "reference/teachers/agentfuse_caseA.npz")
        student = copy.deepcopy(official_student).to(device)
        vis, ir = torch.from_numpy(case["vi"]).to(device), torch.from_numpy(case["ir"]).to(device)
        raw = student.forward_raw(ir=ir, vis=vis)
        np.testing.assert_allclose(raw.cpu().numpy(), case["output"], rtol=0, atol=2e-5)
        # Twice the same on CUDA can differ in the last digits.
        torch.testing.assert_close(
            student(ir=ir, vis=vis), raw[..., :96, :128], rtol=0, atol=0 if device == "cpu" else 2e-5
        )

    @torch.inference_mode()
    def test_the_golden_case_tells_the_images_apart(self, official_student: FusionStudent, reference_dir: Path) -> None:
        case = np.load(reference_dir / "reference/teachers/agentfuse_caseA.npz")
        swapped = official_student.forward_raw(ir=torch.from_numpy(case["vi"]), vis=torch.from_numpy(case["ir"]))
        assert np.abs(swapped.numpy() - case["output"]).max() > 1e-2

    def test_keys_and_shapes(self, reference_dir: Path) -> None:
        manifest = json.loads((reference_dir / "reference/teachers/agentfuse.json").read_text())
        published = {key: tuple(shape) for key, shape, _ in manifest["groups"][0]["keys"]}
        assert {key: tuple(value.shape) for key, value in FusionStudent().state_dict().items()} == published

    def test_parameters(self) -> None:
        assert sum(p.numel() for p in FusionStudent(8).parameters()) == 652_385
        assert sum(p.numel() for p in FusionStudent(16).parameters()) == 2_604_225

    def test_cost(self) -> None:
        image = torch.zeros(1, 1, 224, 224)
        assert thop_counts(FusionStudent(), (image, image)) == (2_706_410_640, 652_161)


class TestForward:
    @settings(deadline=None, max_examples=8)
    @given(height=st.integers(MIN_SIZE, 45), width=st.integers(MIN_SIZE, 45))
    def test_any_size(self, height: int, width: int) -> None:
        fused = FusionStudent(1)(draw(2, 1, height, width), draw(2, 1, height, width, seed=1))
        assert fused.shape == (2, 1, height, width)
        assert 0 <= fused.min() <= fused.max() <= 1

    @pytest.mark.parametrize(
        ("vis", "ir", "message"),
        [
            ((1, 3, 32, 32), (1, 1, 32, 32), r"vis must have shape .* Got \(1, 3, 32, 32\)"),
            ((1, 1, 32, 32), (32, 32), r"ir must have shape"),
            ((1, 1, 32, 32), (1, 1, 32, 40), r"same shape"),
            ((1, 1, 15, 32), (1, 1, 15, 32), r"at least 16 pixels. Got \(15, 32\)"),
        ],
    )
    def test_wrong_shapes(self, vis: tuple[int, ...], ir: tuple[int, ...], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            FusionStudent(1)(ir=torch.zeros(ir), vis=torch.zeros(vis))

    def test_wrong_width(self) -> None:
        with pytest.raises(ValueError, match=r"width must be at least 1\. Got 0"):
            FusionStudent(0)

    @torch.inference_mode()
    def test_samples_do_not_see_their_neighbours(self, device: str) -> None:
        student = FusionStudent(2).to(device)
        vis, ir = draw(3, 1, 32, 40).to(device), draw(3, 1, 32, 40, seed=1).to(device)
        before = student(ir=ir, vis=vis)[1]
        vis[0], ir[2] = 0.0, 5.0
        # Some of CUDA's operations add in an order of their own.
        torch.testing.assert_close(student(ir=ir, vis=vis)[1], before, rtol=0, atol=0 if device == "cpu" else 1e-6)

    def test_nothing_is_kept_from_forward(self) -> None:
        student = FusionStudent(1)
        before = {name: set(vars(module)) for name, module in student.named_modules()}
        buffers = dict(student.named_buffers())
        student(draw(2, 1, 24, 24), draw(2, 1, 24, 24)).sum().backward()
        assert {name: set(vars(module)) for name, module in student.named_modules()} == before
        assert dict(student.named_buffers()) == buffers
        assert not any(isinstance(value, Tensor) for module in student.modules() for value in vars(module).values())
        copy.deepcopy(student)


class TestTraining:
    def test_every_parameter_but_normalised_biases_learns(self) -> None:
        student = FusionStudent(2)
        student(draw(2, 1, 32, 32), draw(2, 1, 32, 32, seed=1)).square().mean().backward()
        for name, parameter in student.named_parameters():
            # A bias before an instance normalisation has no effect; it is there because published weights have it.
            if not (name.startswith("encoder") and name.endswith("bias")):
                assert parameter.grad.abs().max() > 1e-9, name

    def test_a_pair_can_be_learnt(self) -> None:
        student = FusionStudent(2)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            for parameter in student.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.kaiming_normal_(parameter)
        vis, ir = draw(1, 1, 32, 32), draw(1, 1, 32, 32, seed=1)
        optimiser = torch.optim.Adam(student.parameters(), 0.01)
        losses = []
        for _ in range(12):
            loss = (student(ir=ir, vis=vis) - 0.9).abs().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < 0.5 * losses[0]

    def test_channels_last_changes_nothing(self, device: str) -> None:
        student = FusionStudent(2).to(device)
        vis, ir = draw(2, 1, 32, 40).to(device), draw(2, 1, 32, 40, seed=1).to(device)
        expected = student(ir=ir, vis=vis)
        student.to(memory_format=torch.channels_last)
        fused = student(
            ir=ir.contiguous(memory_format=torch.channels_last), vis=vis.contiguous(memory_format=torch.channels_last)
        )
        torch.testing.assert_close(fused, expected, rtol=0, atol=2e-5)
        fused.mean().backward()

    @pytest.mark.parametrize("batch", [1, 2])
    def test_channels_last_has_the_same_gradients(self, batch: int, device: str) -> None:
        # PyTorch's own gradient of instance normalisation is another one for one sample on a CPU.
        plain = FusionStudent(2).double().to(device)
        last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
        vis, ir = draw(batch, 1, 24, 32).double().to(device), draw(batch, 1, 24, 32, seed=1).double().to(device)
        wanted, gradients = (
            torch.autograd.grad(student(ir=ir, vis=vis).square().sum(), [*student.parameters()])
            for student in (plain, last)
        )
        for (name, _), ours, theirs in zip(plain.named_parameters(), gradients, wanted, strict=True):
            torch.testing.assert_close(
                ours, theirs, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
            )

    def test_bfloat16_autocast(self, device: str) -> None:
        student = FusionStudent(4).to(device)
        vis, ir = draw(2, 1, 32, 32).to(device), draw(2, 1, 32, 32, seed=1).to(device)
        expected = student(ir=ir, vis=vis)
        with torch.autocast(device, torch.bfloat16):
            fused = student(ir=ir, vis=vis)
        fused.float().mean().backward()
        assert (fused.float() - expected).abs().max() < 0.1
        assert all(bool(torch.isfinite(p.grad).all()) for p in student.parameters())

    def test_several_students_in_one_call(self) -> None:
        students = [FusionStudent(1) for _ in range(2)]
        parameters, _ = torch.func.stack_module_state(students)
        template = copy.deepcopy(students[0]).to("meta")
        vis, ir = draw(2, 1, 1, 24, 24), draw(2, 1, 1, 24, 24, seed=1)
        fused = torch.func.vmap(lambda p, v, i: torch.func.functional_call(template, p, (i, v)))(parameters, vis, ir)
        for k, student in enumerate(students):
            torch.testing.assert_close(fused[k], student(ir=ir[k], vis=vis[k]), rtol=0, atol=1e-5)


class TestSampleLayerNorm:
    @pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-5])
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_is_the_published_formula(self, spread: float, layout: torch.memory_format, device: str) -> None:
        norm = SampleLayerNorm(3).to(device)
        with torch.no_grad():
            norm.gamma.copy_(torch.tensor([1.0, -2.0, 0.5]))
            norm.beta.copy_(torch.tensor([0.1, 0.2, -0.3]))
        x = (spread * draw(2, 3, 9, 7)).to(device).contiguous(memory_format=layout)
        exact = published_norm(x.double(), norm.gamma.double(), norm.beta.double())
        torch.testing.assert_close(norm(x).double(), exact, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4, 1e-6])
    @pytest.mark.parametrize("normalise", [_FusedNorm, _ParallelNorm])
    def test_gradients(self, spread: float, normalise: type[torch.autograd.Function]) -> None:
        x = (0.3 + spread * draw(2, 3, 5, 4).double()).requires_grad_()
        gamma, beta = (draw(3, seed=seed).double().requires_grad_() for seed in (3, 4))
        weight = draw(2, 3, 5, 4, seed=2).double()
        inputs = [x, gamma, beta]
        ours, exact = normalise.apply(*inputs, 1e-5)[0], published_norm(*inputs)
        torch.testing.assert_close(ours, exact, rtol=1e-8, atol=1e-8)
        for mine, theirs in zip(
            *(torch.autograd.grad((out * weight).sum(), inputs) for out in (ours, exact)), strict=True
        ):
            assert (mine - theirs).norm() <= 1e-6 * theirs.norm()

    @pytest.mark.parametrize("normalise", [_FusedNorm, _ParallelNorm])
    def test_gradients_by_finite_differences(self, normalise: type[torch.autograd.Function]) -> None:
        inputs = [t.double().requires_grad_() for t in (draw(2, 3, 4, 3), draw(3, seed=1), draw(3, seed=2))]
        assert torch.autograd.gradcheck(lambda *x: normalise.apply(*x, 1e-2)[0], inputs)

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_both_ways_are_one(self, layout: torch.memory_format, device: str) -> None:
        x = draw(2, 3, 9, 7).to(device).contiguous(memory_format=layout).requires_grad_()
        gamma, beta = (draw(3, seed=seed).to(device).requires_grad_() for seed in (3, 4))
        weight = draw(2, 3, 9, 7, seed=2).to(device)
        results = []
        for normalise in (_FusedNorm, _ParallelNorm):
            out = normalise.apply(x, gamma, beta, 1e-5)[0]
            assert out.is_contiguous(memory_format=layout)
            results.append((out, *torch.autograd.grad((out * weight).sum(), [x, gamma, beta])))
            assert results[-1][1].is_contiguous(memory_format=layout)
        torch.testing.assert_close(*results, rtol=1e-5, atol=2e-6)

    @pytest.mark.parametrize("normalise", [_FusedNorm, _ParallelNorm])
    def test_a_flat_sample_beside_another(self, normalise: type[torch.autograd.Function]) -> None:
        x = draw(2, 3, 5, 4)
        x[0] = 0.7
        x.requires_grad_()
        ones = torch.ones(3)
        out = normalise.apply(x, ones, ones, 1e-5)[0]
        (gradient,) = torch.autograd.grad((out * draw(2, 3, 5, 4, seed=2)).sum(), x)
        assert torch.isfinite(out).all()
        assert torch.isfinite(gradient).all()
        assert gradient[1].any()

    def test_constant_sample(self) -> None:
        x = torch.full((1, 2, 4, 4), 0.7, requires_grad=True)
        out = SampleLayerNorm(2)(x)
        out.sum().backward()
        assert out.abs().max() < 0.05  # one rounding of the mean over eps
        assert torch.isfinite(x.grad).all()

    def test_can_be_compiled_and_exported(self) -> None:
        norm, x = SampleLayerNorm(3), draw(2, 3, 9, 7)
        expected = norm(x)
        exported = torch.export.export(norm, (x,)).module()
        compiled = torch.compile(norm, backend="aot_eager", fullgraph=True)
        for other in (exported, compiled):
            torch.testing.assert_close(other(x), expected)
        gradients = [torch.autograd.grad(one(x).square().sum(), norm.gamma) for one in (norm, compiled)]
        torch.testing.assert_close(*gradients)

    def test_half_input_has_float32_statistics(self) -> None:
        x = 100 + draw(1, 4, 64, 64)
        half = x.bfloat16()
        norm = SampleLayerNorm(4)
        assert norm(half).dtype is torch.bfloat16
        torch.testing.assert_close(norm(half).float(), norm(half.float()), rtol=1e-2, atol=1e-2)


def test_encoder_sizes() -> None:
    assert ContentEncoder(2)(draw(1, 1, 33, 47)).shape == (1, 16, 4, 5)
