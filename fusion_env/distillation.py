"""The distillation engine: one student, its optimiser, and rounds of training under an action. Free of gymnasium."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusion_env.action import LossWeights
from fusion_env.config import DataSettings, MachineSettings, TrainingSettings
from fusion_env.crop_bank import Batch, CropBank
from fusion_env.degradation import Degradation, degrade, draw_noise
from fusion_env.errors import SnapshotError
from fusion_env.losses import LossScales, guidance_loss, self_learning_loss, total_loss
from fusion_env.snapshot import SNAPSHOT_VERSION, check_version, read_generator, to_cpu, write_generator
from fusion_env.updates import Moments, Schedule, to_unit_norm
from student import FusionStudent
from student.numerics import own_numerics

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


def epoch_iterations(images: int, batch_size: int) -> int:
    """Return the mini-batches of one pass over the training images, at least 1."""
    return max(1, -(-images // batch_size))


class Distillation:
    """Trains one student on a bank of crops, round by round.

    Attributes:
        student: The student, in evaluation mode between rounds.
        optimizer: Its optimiser.
        learning_rate: Step size at the top of the schedule.
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
        order_seed: int,
        noise_seed: int,
    ) -> None:
        self._settings = settings
        self._bank = bank
        self._features = features
        self._iterations = iterations
        self._scales = scales
        self._schedule = schedule
        self._device = bank.ir.device
        with torch.device("meta"):  # no first weights are drawn: the global random state stays as it is
            self.student = FusionStudent()
        self.student.to_empty(device=self._device)
        self.student.load_state_dict(student_state)
        if settings.channels_last:
            self.student.to(memory_format=torch.channels_last)
        self.student.eval()
        self.learning_rate = settings.learning_rate
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=self.learning_rate)
        if moments is not None:
            moments.give(self.optimizer, self.student)
        self._rounds = 0
        self._order = BankOrder(len(bank), order_seed)
        self._noise = torch.Generator(self._device)
        self._noise.manual_seed(noise_seed)
        self._before: dict[str, Tensor] = {}
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
        self._before = {name: tensor.clone() for name, tensor in self.student.state_dict().items()}
        self.student.train().requires_grad_(True)  # a caller may have frozen it to look at it
        sums = torch.zeros(3, device=self._device)
        share = float("nan")
        for iteration in range(self._iterations):
            losses = self.losses(weights, degradation, **self.next_batch()._asdict())
            if iteration == 0:
                share = self._backward_with_share(weights, *losses)
            else:
                with self.timed("backward"):
                    self.optimizer.zero_grad(set_to_none=True)
                    total = total_loss(*losses, weights, self._scales)
                    if total.requires_grad:  # not so where all of Eq. 3 is 0: self-learning alone, nothing degraded
                        total.backward()
            with self.timed("update"):
                self._update(self._rounds + iteration / self._iterations)
            total = total_loss(losses[0].detach(), losses[1].detach(), weights, self._scales)
            sums += torch.stack([losses[0].detach(), losses[1].detach(), total])
        self.student.eval()
        self._rounds += 1
        guidance, self_learning, total = (sums / self._iterations).tolist()
        update_norm = self._change_since_before()
        diverged = not (np.isfinite(total) and self._weights_are_finite())
        if diverged:
            self.roll_back()
        return RoundResult(guidance, self_learning, total, share, update_norm, diverged)

    def roll_back(self) -> None:
        """Give the student the weights from before the last round; the optimiser stays as the round left it."""
        self.student.load_state_dict(self._before)

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
        both = LossWeights(0.5, 0.5)
        norms = []
        for _ in range(batches):
            losses = self.losses(both, degradation, **self.next_batch()._asdict())
            norms.append([_norm(self._gradient(loss)) for loss in losses])
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

    def degraded_batch(self, degradation: Degradation, *, ir: Tensor, vis: Tensor) -> tuple[Tensor, Tensor]:
        """Degrade infrared and visible luma [B, 1, H, W] alike in strength, with the next random parts."""
        with self.timed("degradation"):
            both = torch.cat([ir, vis])
            # Drawn even when everything is off, so that one round's strengths do not shift the next round's draws.
            noise = draw_noise(both.shape, self._noise, self._device)
            bad_ir, bad_vis = degrade(both, degradation, noise).chunk(2)
            return bad_ir, bad_vis

    def losses(
        self, weights: LossWeights, degradation: Degradation, *, ir: Tensor, vis: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return Eq. 1 and Eq. 2 of one mini-batch; a loss of weight 0 is not computed and 0."""
        count = len(ir)
        zero = torch.zeros((), device=self._device)
        bad_ir, bad_vis = self.degraded_batch(degradation, ir=ir, vis=vis)
        # Without degradation both outputs are the same tensor: Eq. 2 and its gradient are exactly 0.
        pair = weights.self_learning > 0 and not degradation.is_identity
        with self.timed("student"), self._autocast():
            if pair:
                fused, fused_bad = (
                    self.student(ir=torch.cat([ir, bad_ir]), vis=torch.cat([vis, bad_vis])).float().split(count)
                )
            else:
                fused = fused_bad = self.student(ir=ir, vis=vis).float()
        guidance = zero
        if weights.guidance > 0:
            with self.timed("perception"), self._autocast():
                with torch.no_grad():
                    wanted = self._features(target)
                guidance = guidance_loss(self._features(fused), wanted)
        self_learning = zero
        if pair:
            self_learning = self_learning_loss(
                fused, fused_bad, kind=self._settings.self_learning_loss, detach_original=self._settings.detach_original
            )
        return guidance, self_learning

    def _backward_with_share(self, weights: LossWeights, guidance: Tensor, self_learning: Tensor) -> float:
        """Set the gradients of Eq. 3 and return the guidance loss's share of the two gradient norms."""
        with self.timed("backward"):
            parts = [
                self._gradient(weights.guidance / self._scales.guidance * guidance),
                self._gradient(weights.self_learning / self._scales.self_learning * self_learning),
            ]
            norms = [_norm(part) for part in parts]
            present = [part for part in parts if part is not None]
            for i, parameter in enumerate(self.student.parameters()):
                parameter.grad = sum((part[i] for part in present), torch.zeros_like(parameter)) if present else None
        total = sum(norms)
        return norms[0] / total if total > 0 else float(guidance.requires_grad)

    def _gradient(self, loss: Tensor) -> tuple[Tensor, ...] | None:
        """Return the gradient of a loss, whose graph is kept; None if nothing depends on the weights."""
        if not loss.requires_grad:
            return None
        return torch.autograd.grad(loss, tuple(self.student.parameters()), retain_graph=True)

    def _update(self, rounds: float) -> None:
        """Take a step along the gradient, `rounds` after the start."""
        gradients = [parameter.grad for parameter in self.student.parameters() if parameter.grad is not None]
        if gradients and self._settings.update == "direction":
            to_unit_norm(gradients)
        self.optimizer.param_groups[0]["lr"] = self.learning_rate * self._schedule.factor(rounds)
        self.optimizer.step()

    def _change_since_before(self) -> float:
        changes = [(tensor - self._before[name]).norm() for name, tensor in self.student.state_dict().items()]
        return float(torch.stack(changes).norm())

    def _weights_are_finite(self) -> bool:
        return bool(torch.stack([p.isfinite().all() for p in self.student.parameters()]).all())

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
        self.optimizer.load_state_dict(to_cpu(state["optimizer"]))  # it would go on in the snapshot's own tensors
        self._rounds = int(state["rounds"])
        self._order.load_state_dict(state["order"])
        self._noise.set_state(state["noise"])


def _norm(gradient: tuple[Tensor, ...] | None) -> float:
    return 0.0 if gradient is None else float(torch.stack([part.norm() for part in gradient]).norm())
