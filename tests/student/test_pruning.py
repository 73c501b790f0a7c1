"""Pruning: the right channels are kept, and each pruned part computes what the teacher's part does on them.

The teacher here is a state dict with random values: its content encoders and up-sampling decoder are
`FusionStudent(16)`, which is what AgentFuse prunes.
"""

import pytest
import torch
from torch import Tensor, nn

from student.network import FusionStudent, SampleLayerNorm
from student.pruning import EncoderPlan, PruningPlan, plan_pruning, prune_ldfusion
from student.weights import WeightsError

CHAIN = ("model.1", "model.4", "model.7", "model.10")
RESIDUAL = ("model.13.block", "model.14.block")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def teacher_state(unpruned: FusionStudent) -> dict[str, Tensor]:
    """Name the tensors of an unpruned student as LDFusion does."""
    renamed = {"encoder": "Enc", "decoder": "Dec"}
    split = ((key.split(".", 1), value) for key, value in unpruned.state_dict().items())
    return {f"{renamed[part]}.{rest}": value.clone() for (part, rest), value in split}


@pytest.fixture
def unpruned() -> FusionStudent:
    network = FusionStudent(16)
    with torch.no_grad():
        for seed, parameter in enumerate(network.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed) / max(1, parameter[0].numel()) ** 0.5)
    return network.eval()


@pytest.fixture
def state(unpruned: FusionStudent) -> dict[str, Tensor]:
    return teacher_state(unpruned)


def complement(kept: tuple[int, ...], count: int) -> list[int]:
    return sorted(set(range(count)) - set(kept))


class TestPlan:
    def test_sizes(self, state: dict[str, Tensor]) -> None:
        plan = plan_pruning(state)
        for encoder in (plan.vis, plan.ir):
            kept = [encoder.stem, encoder.down1, encoder.down2, encoder.code, *encoder.inner]
            assert [len(indices) for indices in kept] == [8, 16, 32, 64, 64, 64]
            assert all(list(indices) == sorted(set(indices)) for indices in kept)
        assert [len(indices) for indices in plan.up] == [64, 32, 16]
        assert len(plan.content) == 128
        assert plan.vis != plan.ir

    def test_the_strongest_filters_are_kept(self, state: dict[str, Tensor]) -> None:
        # Filter i of every layer gets a norm that grows with a known score.
        score = torch.tensor([3, 9, 1, 12, 5, 16, 2, 14, 7, 11, 4, 15, 6, 13, 8, 10.0])
        state["Enc.content_encoder2.model.1.weight"] = score.view(16, 1, 1, 1).expand(16, 1, 7, 7) * -0.01
        weight = torch.ones(64, 32, 5, 5)
        weight[:, 5] = -2.0  # the third transposed convolution is [in, out, k, k]
        weight[:, 9] = 0.1
        state["Dec.model_up.6.weight"] = weight
        plan = plan_pruning(state)
        assert plan.ir.stem == (1, 3, 5, 7, 9, 11, 13, 15)
        assert plan.up[2] == (*range(9), *range(10, 17))  # 5 is in, 9 is out, equal ones by index

    def test_residual_stage_shares_the_sum_of_norms(self, state: dict[str, Tensor]) -> None:
        prefix = "Enc.content_encoder1"
        for layer in ("model.10", "model.13.block.5", "model.14.block.5"):
            state[f"{prefix}.{layer}.weight"] = torch.zeros_like(state[f"{prefix}.{layer}.weight"])
        # Each of the three writers makes other channels strong; 0..63 are strong only in sum.
        state[f"{prefix}.model.10.weight"][:64] = 0.4
        state[f"{prefix}.model.13.block.5.weight"][:64] = 0.4
        state[f"{prefix}.model.14.block.5.weight"][64:] = 0.6
        assert plan_pruning(state).vis.code == tuple(range(64))

    def test_concatenation_is_visible_first(self) -> None:
        encoder = EncoderPlan((0,), (0,), (0,), (0,), ((0,), (0,)))
        vis = EncoderPlan(**{**vars(encoder), "code": (2, 5)})
        ir = EncoderPlan(**{**vars(encoder), "code": (0, 7)})
        assert PruningPlan(ir=ir, vis=vis, up=((0,), (0,), (0,)), code_channels=128).content == (2, 5, 128, 135)

    @pytest.mark.parametrize("width", [0, 17])
    def test_width_out_of_range(self, state: dict[str, Tensor], width: int) -> None:
        with pytest.raises(ValueError, match=rf"width must be in 1..16, .* Got {width}"):
            plan_pruning(state, width)

    def test_other_networks(self) -> None:
        with pytest.raises(WeightsError, match="only LDFusion"):
            prune_ldfusion({"stem.weight": torch.zeros(1)})


class TestEncoder:
    @torch.inference_mode()
    def test_equals_the_teacher_where_dropped_channels_are_not_read(self, unpruned: FusionStudent) -> None:
        # Random channels are made weak, so that they are dropped, and their readers' weights zero.
        generator = torch.Generator().manual_seed(3)
        for encoder in (unpruned.encoder.content_encoder1, unpruned.encoder.content_encoder2):
            kept = {}
            for name in CHAIN:
                kept[name] = torch.randperm(encoder.get_submodule(name).out_channels, generator=generator)
                kept[name] = kept[name][: len(kept[name]) // 2].tolist()
            for block in RESIDUAL:
                kept[f"{block}.1"] = torch.randperm(128, generator=generator)[:64].tolist()
                kept[f"{block}.5"] = kept["model.10"]
            sources = dict(zip(CHAIN[1:], CHAIN[:-1], strict=True))
            sources |= {f"{block}.1": "model.10" for block in RESIDUAL}
            sources |= {f"{block}.5": f"{block}.1" for block in RESIDUAL}
            for name, indices in kept.items():
                conv = encoder.get_submodule(name)
                conv.weight[complement(tuple(indices), conv.out_channels)] *= 1e-3
                if name in sources:
                    conv.weight[:, complement(tuple(kept[sources[name]]), conv.in_channels)] = 0
        state = teacher_state(unpruned)
        plan, student = plan_pruning(state), prune_ldfusion(state).eval()
        vis, ir = draw(1, 1, 40, 56).sigmoid(), draw(1, 1, 40, 56, seed=1).sigmoid()
        code = unpruned.encoder(ir=ir, vis=vis)[:, list(plan.content)]
        torch.testing.assert_close(student.encoder(ir=ir, vis=vis), code, rtol=0, atol=2e-5)


class TestDecoder:
    @torch.inference_mode()
    @pytest.mark.parametrize("stage", [0, 1, 2])
    def test_transposed_convolutions(self, unpruned: FusionStudent, stage: int) -> None:
        state = teacher_state(unpruned)
        plan, student = plan_pruning(state), prune_ldfusion(state)
        layer, inputs, outputs = plan.up_layers()[stage]
        source, target = unpruned.decoder.get_submodule(layer), student.decoder.get_submodule(layer)
        code = draw(2, source.in_channels, 6, 5)
        code[:, complement(inputs, source.in_channels)] = 0
        expected = source(code)[:, list(outputs)]
        torch.testing.assert_close(target(code[:, list(inputs)]), expected, rtol=0, atol=1e-5)

    @torch.inference_mode()
    def test_output_convolution(self, unpruned: FusionStudent) -> None:
        state = teacher_state(unpruned)
        kept = list(plan_pruning(state).up[2])
        features = draw(2, 32, 12, 10)
        features[:, complement(tuple(kept), 32)] = 0
        source, target = unpruned.decoder.model_up[10], prune_ldfusion(state).decoder.model_up[10]
        torch.testing.assert_close(target(features[:, kept]), source(features), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("stage", [0, 1, 2])
    def test_norm_parameters_follow_their_channels(self, unpruned: FusionStudent, stage: int) -> None:
        state = teacher_state(unpruned)
        kept = list(plan_pruning(state).up[stage])
        source, target = (net.decoder.model_up[3 * stage + 1] for net in (unpruned, prune_ldfusion(state)))
        assert isinstance(target, SampleLayerNorm)
        assert torch.equal(target.gamma, source.gamma[kept])
        assert torch.equal(target.beta, source.beta[kept])


class TestStudent:
    def test_size_and_independence(self, state: dict[str, Tensor]) -> None:
        before = {key: value.clone() for key, value in state.items()}
        student = prune_ldfusion(state)
        assert sum(p.numel() for p in student.parameters()) == 652_385
        nn.init.zeros_(student.decoder.model_up[10].bias)
        assert all(torch.equal(state[key], before[key]) for key in before)

    def test_full_width_keeps_everything(self, unpruned: FusionStudent, state: dict[str, Tensor]) -> None:
        student = prune_ldfusion(state, width=16)
        assert all(torch.equal(value, unpruned.state_dict()[key]) for key, value in student.state_dict().items())

    @torch.inference_mode()
    def test_ldfusion_itself(self) -> None:
        from fusion_env.teachers import LDFusion

        student = prune_ldfusion(LDFusion().state_dict(), width=2)
        assert student(torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32)).shape == (1, 1, 32, 32)
