"""The distillation engine: one student, its optimiser, and rounds of training under an action. Free of gymnasium."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusion_env.action import LossWeights
from fusion_env.captured import CudaGraphs, Graph, Replayed, StandInGraph, captures
from fusion_env.compiled import compiled
from fusion_env.config import DataSettings, MachineSettings, TrainingSettings
from fusion_env.crop_bank import CropBank
from fusion_env.degradation import Degradation, DegradationTensors, degrade, degrade_by_tensors, draw_noise
from fusion_env.errors import SnapshotError
from fusion_env.losses import LossScales, guidance_loss, self_learning_loss
from fusion_env.round_tensors import RoundTensors
from fusion_env.snapshot import SNAPSHOT_VERSION, check_version, read_generator, to_cpu, write_generator
from fusion_env.stored_images import Batch, Feed
from fusion_env.target_features import TargetFeatures
from fusion_env.updates import (
    Moments,
    Schedule,
    give_gradients,
    new_optimizer,
    norm_of,
    restore,
    take_step,
    to_unit_norm,
)
from student import FusionStudent
from student.numerics import own_numerics
from student.on_cpu import quickest

__all__ = ["GUIDANCE_ONLY", "BankOrder", "Distillation", "EngineSettings", "RoundResult", "epoch_iterations"]

GUIDANCE_ONLY = LossWeights(guidance=1.0, self_learning=0.0)


@dataclass(frozen=True)
class EngineSettings(MachineSettings, TrainingSettings, DataSettings):
    """What training depends on, beside its bank."""


@dataclass(frozen=True)
class RoundResult:
    """What one round of training did.

    Attributes:
        guidance: Mean of Eq. 1 over the round's mini-batches, before scaling; NaN if it was not computed.
        self_learning: Mean of Eq. 2, before scaling.
        total: Mean of Eq. 3.
        guidance_share: Share of the weighted guidance loss in the sum of both losses' gradient norms, at the round's
            first mini-batch, 0..1.
        update_norm: Norm of the change of all weights over the round.
        diverged: A loss or a weight is not finite; training stopped there.
    """

    guidance: float
    self_learning: float
    total: float
    guidance_share: float
    update_norm: float
    diverged: bool

    @property
    def losses(self) -> dict[str, float]:
        """The mean losses by name."""
        return {"guidance": self.guidance, "self_learning": self.self_learning, "total": self.total}


class BankOrder:
    """Endless order over a bank: a fresh permutation in each pass.

    Args:
        count: Crops in the bank.
        seed: Seed of the permutations.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._order = self._rng.permutation(count)
        self._next = 0

    def take(self, batch: int) -> NDArray[np.int64]:
        """Return the numbers of the next crops."""
        parts: list[NDArray[np.int64]] = []
        missing = batch
        while missing:
            if self._next == len(self._order):
                self._order, self._next = self._rng.permutation(len(self._order)), 0
            parts.append(self._order[self._next : self._next + missing])
            self._next += len(parts[-1])
            missing -= len(parts[-1])
        return np.concatenate(parts)

    def state_dict(self) -> dict[str, Any]:
        """Return where the order stands."""
        return {
            "rng": write_generator(self._rng),
            "order": torch.from_numpy(self._order.copy()),
            "next": self._next,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`'s output."""
        self._rng = read_generator(state["rng"])
        self._order, self._next = state["order"].numpy().copy(), int(state["next"])


class _Kind(NamedTuple):
    """What an iteration computes; everything else that it depends on is a tensor."""

    guidance: bool
    self_learning: bool
    measured: bool
    """Both losses' gradients are taken apart, for their norms."""


class _Networks(NamedTuple):
    student: Callable[..., Tensor]
    features: Callable[[Tensor], list[Tensor]]


def epoch_iterations(images: int, batch_size: int) -> int:
    """Return the mini-batches of one pass over the training images, at least 1."""
    return max(1, -(-images // batch_size))


class Distillation:
    """Trains one student on a bank of crops, round by round.

    Attributes:
        student: The student, in evaluation mode.
        optimizer: Its optimiser.
        learning_rate: Step size at the top of the schedule.
        new_graph: Makes graphs of work that takes turns with its iterations; None where nothing is captured.
        timings: Seconds that each part of training took.

    Args:
        settings: How to train.
        bank: Training crops with the teacher's targets.
        features: Feature network of Eq. 1, frozen, on the bank's device.
        student_state: Weights to start from.
        iterations: Mini-batches in a round.
        scales: What the losses are divided by.
        schedule: Step size over the rounds.
        moments: What the optimiser remembers at the start; None for nothing.
        targets: The teacher's features; engines of one bank and network can share them.
        order_seed: Seed of the order of the crops.
        noise_seed: Seed of the degradations' random parts.
    """

    @own_numerics()
    def __init__(
        self,
        settings: EngineSettings,
        bank: CropBank,
        features: nn.Module,
        student_state: dict[str, Tensor],
        *,
        iterations: int,
        scales: LossScales,
        schedule: Schedule,
        moments: Moments | None = None,
        targets: TargetFeatures | None = None,
        order_seed: int,
        noise_seed: int,
    ) -> None:
        self._settings = settings
        self._bank = bank
        self._features = features
        self._targets = targets or TargetFeatures(bank, features, autocast=settings.autocast, limit_mib=0)
        self._feed = Feed(bank, settings.batch_size)
        self._iterations = iterations
        self._scales = scales
        self._schedule = schedule
        self._device = bank.device
        with torch.device("meta"):  # no first weights are drawn: the global random state stays as it is
            self.student = FusionStudent()
        self.student.to_empty(device=self._device)
        self.student.load_state_dict(student_state)
        if settings.channels_last:
            self.student.to(memory_format=torch.channels_last)
        self.student.eval()
        self._parameters: list[Tensor] = list(self.student.parameters())  # kept: to go through the modules takes long
        self._compiled: _Networks | None = None
        if settings.compiled:
            self._compiled = _Networks(compiled(self.student), compiled(features))
        self.learning_rate = settings.learning_rate
        self.optimizer = new_optimizer(self.student, self.learning_rate, moments)
        self._rounds = 0
        self._order = BankOrder(len(bank), order_seed)
        self._noise = torch.Generator(self._device)
        self._noise.manual_seed(noise_seed)
        batch = torch.empty((settings.batch_size, *bank.ir.shape[1:]), device=self._device)
        self._round = RoundTensors(self.student, batch, iterations)
        self._degradation: Degradation | DegradationTensors = Degradation()
        self.new_graph: Callable[[], Graph] | None = None
        if captures(settings.capture, self._device):
            on_cuda = self._device.type == "cuda"
            self.new_graph = CudaGraphs(self._device, self._noise) if on_cuda else StandInGraph
        self._replayed: Replayed[_Kind] | None = None if self.new_graph is None else Replayed(self.new_graph)
        self.timings: dict[str, float] = {}

    @own_numerics()
    def run_round(self, weights: LossWeights, degradation: Degradation) -> RoundResult:
        """Train for one round; a student that diverged is taken back, see `roll_back`.

        Args:
            weights: Weights of Eq. 3.
            degradation: Applied to infrared and visible luma with independent random parts.

        Returns:
            Mean losses and whether training diverged.
        """
        for parameter in self._parameters:
            parameter.requires_grad_(True)  # a caller may have frozen it to look at it
        order = self._prepare(weights, degradation)
        guidance, self_learning = weights.guidance > 0, self._has_pair(weights, degradation)
        places = tuple(parameter.data_ptr() for parameter in self._parameters)
        for iteration, numbers in enumerate(order):
            with self.timed("data"):
                self._feed.bring(numbers)
            kind = _Kind(guidance, self_learning, measured=iteration == 0 and guidance and self_learning)
            if self._replayed is None:
                self._iterate(kind)
            else:
                with self.timed("graphs"):
                    self._replayed(self._iterate, kind, places)
        self._rounds += 1
        *losses, first, second, update_norm, finite = self._outcome()
        diverged = not (np.isfinite(losses[2]) and finite)
        if diverged:
            self.roll_back()
        return RoundResult(
            guidance=losses[0],
            self_learning=losses[1],
            total=losses[2],
            guidance_share=first / (first + second) if first + second > 0 else float(guidance),
            update_norm=update_norm,
            diverged=diverged,
        )

    @torch.no_grad()
    def _prepare(self, weights: LossWeights, degradation: Degradation) -> NDArray[np.int64]:
        """Hand a round to its iterations; return the crops of each mini-batch."""
        tensors, count = self._round, self._iterations
        torch._foreach_copy_(tensors.weights, self._parameters)
        with self.timed("data"):
            order = self._order.take(tensors.index.numel()).reshape(tensors.index.shape)
            tensors.index.copy_(torch.from_numpy(order))
        factors = [self._schedule.factor(self._rounds + iteration / count) for iteration in range(count)]
        tensors.rates.copy_(self.learning_rate * torch.tensor(factors))
        scales = self._scales
        tensors.factors.copy_(
            torch.tensor([weights.guidance / scales.guidance, weights.self_learning / scales.self_learning])
        )
        tensors.position.zero_()
        tensors.sums.zero_()
        tensors.norms.copy_(torch.tensor([float(weights.guidance > 0), 0.0]))  # unless they are measured
        self._degradation = degradation
        if self._replayed is not None:
            tensors.degradation.set(degradation)
            self._degradation = tensors.degradation
        return order

    @torch.no_grad()
    def _outcome(self) -> list[float]:
        """Read what a round came to, all at once: mean losses, both gradients' norms, the update's norm, finite."""
        parameters, tensors = self._parameters, self._round
        update_norm = norm_of(torch._foreach_sub(parameters, tensors.weights))
        finite = norm_of(torch._foreach_mul(parameters, 0.0)) == 0  # 0 times what is not finite is NaN
        numbers = torch.stack([update_norm, finite.to(update_norm.dtype)])
        return torch.cat([tensors.sums / self._iterations, tensors.norms, numbers]).tolist()

    def _iterate(self, kind: _Kind) -> None:
        """Train on one mini-batch: from tensors to tensors, so that it can be captured."""
        tensors = self._round
        with self.timed("data"):
            index = tensors.now(tensors.index)
            ir, vis, target = self._feed.batch(index)
        bad_ir, bad_vis = self.degraded_batch(self._degradation, ir=ir, vis=vis)
        features = self._networks(kind).features
        wanted = partial(self._targets, index) if self._targets.kept else partial(features, target)
        losses = self._losses(kind, ir, vis, bad_ir, bad_vis, wanted)
        with self.timed("backward"):
            weighted = [loss * factor for loss, factor in zip(losses, tensors.factors, strict=True)]
            gradients = self._gradients(kind, weighted)
        with self.timed("update"):
            if gradients is not None:
                self._update(gradients)
        with torch.no_grad():
            tensors.sums += torch.stack([*losses, weighted[0] + weighted[1]])
            tensors.position += 1

    def roll_back(self) -> None:
        """Give the student the weights from before the last round; the optimiser stays as the round left it."""
        with torch.no_grad():
            torch._foreach_copy_(self._parameters, self._round.weights)

    @own_numerics()
    def loss_values(self, degradation: Degradation, batches: int) -> tuple[float, float]:
        """Return the mean of Eq. 1 and of Eq. 2 over the next mini-batches, without training."""
        both = LossWeights(0.5, 0.5)
        values = []
        with torch.no_grad():
            for _ in range(batches):
                values.append(torch.stack(self.losses(both, degradation, **self.next_batch()._asdict())))
        guidance, self_learning = torch.stack(values).mean(0).tolist()
        return guidance, self_learning

    @own_numerics()
    def gradient_norms(self, degradation: Degradation, batches: int) -> tuple[float, float]:
        """Return the mean norm of the gradients of Eq. 1 and of Eq. 2 over the next mini-batches, without training."""
        apart = _Kind(guidance=True, self_learning=True, measured=True)
        norms = []
        for _ in range(batches):
            ir, vis, target = self.next_batch()
            bad_ir, bad_vis = self.degraded_batch(degradation, ir=ir, vis=vis)
            losses = self._losses(apart, ir, vis, bad_ir, bad_vis, partial(self._features, target))
            norms.append([float(norm_of(part)) for part in self._parts(losses)])
        guidance, self_learning = np.mean(norms, axis=0).tolist()
        return guidance, self_learning

    def moments(self) -> Moments:
        """Return what the optimiser remembers."""
        return Moments.of(self.optimizer, self.student)

    def next_batch(self) -> Batch:
        """Return the next mini-batch."""
        with self.timed("data"):
            index = torch.from_numpy(self._order.take(self._settings.batch_size)).to(self._device)
            return self._bank.batch(index)

    def degraded_batch(
        self, degradation: Degradation | DegradationTensors, *, ir: Tensor, vis: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Degrade infrared and visible luma [B, 1, H, W] alike in strength, with the next random parts."""
        with self.timed("degradation"):
            both = torch.cat([ir, vis])
            # Drawn even when everything is off, so that one round's strengths do not shift the next round's draws.
            noise = draw_noise(both.shape, self._noise, self._device)
            if isinstance(degradation, DegradationTensors):
                bad = degrade_by_tensors(both, degradation, noise)
            else:
                bad = degrade(both, degradation, noise, by_codec=self._settings.jpeg == "codec")
            bad_ir, bad_vis = bad.chunk(2)
            return bad_ir, bad_vis

    def losses(
        self, weights: LossWeights, degradation: Degradation, *, ir: Tensor, vis: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return Eq. 1 and Eq. 2 of one mini-batch; a loss of weight 0 is not computed and 0."""
        kind = _Kind(weights.guidance > 0, self._has_pair(weights, degradation), measured=False)
        return self._losses(
            kind, ir, vis, *self.degraded_batch(degradation, ir=ir, vis=vis), partial(self._features, target)
        )

    @staticmethod
    def _has_pair(weights: LossWeights, degradation: Degradation) -> bool:
        # Without degradation both outputs are the same tensor: Eq. 2 and its gradient are exactly 0.
        return weights.self_learning > 0 and not degradation.is_identity

    def _losses(
        self,
        kind: _Kind,
        ir: Tensor,
        vis: Tensor,
        bad_ir: Tensor,
        bad_vis: Tensor,
        target_features: Callable[[], list[Tensor]],
    ) -> tuple[Tensor, Tensor]:
        guidance = self_learning = torch.zeros((), device=self._device)
        student, features = self._networks(kind)
        with self.timed("student"), self._autocast():
            if kind.self_learning and kind.measured:
                # One after the other, so that each loss has a graph of its own to go back through.
                fused, fused_bad = student(ir=ir, vis=vis).float(), student(ir=bad_ir, vis=bad_vis).float()
            elif kind.self_learning:
                both = student(ir=torch.cat([ir, bad_ir]), vis=torch.cat([vis, bad_vis]))
                fused, fused_bad = both.float().chunk(2)
            else:
                fused = fused_bad = student(ir=ir, vis=vis).float()
        if kind.guidance:
            with self.timed("perception"), self._autocast():
                with torch.no_grad():
                    wanted = target_features()
                guidance = guidance_loss(features(fused), wanted)
        if kind.self_learning:
            settings = self._settings
            self_learning = self_learning_loss(
                fused, fused_bad, kind=settings.self_learning_loss, detach_original=settings.detach_original
            )
        return guidance, self_learning

    def _networks(self, kind: _Kind) -> "_Networks":
        """Return student and features as this iteration calls them."""
        if self._compiled is not None and not kind.measured:  # a compiled graph is gone back through once at most
            return self._compiled
        return _Networks(self.student if self._settings.autocast else quickest(self.student), self._features)

    def _gradients(self, kind: _Kind, weighted: Sequence[Tensor]) -> Sequence[Tensor] | None:
        """Return the gradient of Eq. 3; None if nothing depends on the weights."""
        if kind.measured:
            first, second = self._parts(weighted)
            self._round.norms.copy_(torch.stack([norm_of(first), norm_of(second)]))
            return torch._foreach_add(first, second)
        total = weighted[0] + weighted[1]
        return torch.autograd.grad(total, self._parameters) if total.requires_grad else None

    def _parts(self, losses: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """Return each loss's gradient."""
        together = not self._settings.detach_original  # both go back through the student's output for clean input
        return [torch.autograd.grad(loss, self._parameters, retain_graph=together) for loss in losses]

    def _update(self, gradients: Sequence[Tensor]) -> None:
        """Take a step along the gradient."""
        give_gradients(self._parameters, gradients)
        if self._settings.update == "direction":
            to_unit_norm([parameter.grad for parameter in self._parameters if parameter.grad is not None])
        self.optimizer.param_groups[0]["lr"].copy_(self._round.now(self._round.rates))
        take_step(self.optimizer, self._device)

    def _autocast(self) -> torch.autocast:
        # No cache of converted weights: inside a caller's autocast it would outlive the update that changes them.
        kind = self._device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self._settings.autocast, cache_enabled=False)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the seconds that a block takes to ``timings[part]``; they influence nothing."""
        start = time.perf_counter()
        yield
        self.timings[part] = self.timings.get(part, 0.0) + time.perf_counter() - start

    def reseed(self, order_seed: int, noise_seed: int) -> None:
        """Start new random streams; student and optimiser stay as they are."""
        self._order = BankOrder(len(self._bank), order_seed)
        self._noise.manual_seed(noise_seed)

    @own_numerics()
    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next rounds depend on: weights, optimiser, rounds, random streams.

        Tensors are copies on the CPU; the whole can be written with ``torch.save`` and read with ``weights_only=True``.
        """
        return {
            "version": SNAPSHOT_VERSION,
            "student": to_cpu(self.student.state_dict()),
            "optimizer": to_cpu(self.optimizer.state_dict()),
            "rounds": self._rounds,
            "order": self._order.state_dict(),
            "noise": self._noise.get_state().clone(),
        }

    @own_numerics()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`'s output, bit for bit on the CPU.

        Raises:
            SnapshotError: The snapshot has another format version or another bank.
        """
        check_version(state)
        if len(state["order"]["order"]) != len(self._bank):
            raise SnapshotError(
                f"the snapshot's bank has {len(state['order']['order'])} crops, this one {len(self._bank)}: "
                "use the configuration that it was made with"
            )
        self.student.load_state_dict(state["student"])
        restore(self.optimizer, state["optimizer"])
        self._rounds = int(state["rounds"])
        self._order.load_state_dict(state["order"])
        self._noise.set_state(state["noise"])
