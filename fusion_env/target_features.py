"""The teacher's features of a bank's crops: fixed, like the crops, and therefore computed once where they fit."""

import torch
from torch import Tensor, nn

from fusion_env.crop_bank import CropBank
from student.layout import is_channels_last

__all__ = ["TargetFeatures"]

_AT_ONCE = 8


class TargetFeatures:
    """Gives the features of some crops' targets; they are kept on the device if all of them fit into a limit.

    The engines of one task share an object: it is filled when the first of them asks.

    Args:
        bank: Crops with targets.
        features: Feature network of Eq. 1, frozen, on the bank's device.
        autocast: Run the network in bfloat16.
        limit_mib: Most memory that may be taken, in MiB.

    Attributes:
        mib: Memory that the features of all crops take, in MiB.
        kept: Whether they are kept.
    """

    def __init__(self, bank: CropBank, features: nn.Module, *, autocast: bool, limit_mib: int) -> None:
        self._bank = bank
        self._features = features
        self._autocast = autocast
        self._stored: list[Tensor] | None = None
        first = torch.zeros(1, dtype=torch.int64, device=bank.device)
        self.mib = sum(tap.nbytes for tap in self._compute(first)) * len(bank) / 2**20
        self.kept = self.mib <= limit_mib

    def __call__(self, index: Tensor) -> list[Tensor]:
        """Return each tap's features of the crops with these numbers."""
        if not self.kept:
            return self._compute(index)
        if self._stored is None:
            self._stored = self._compute_all()
        return [_chosen(tap, index) for tap in self._stored]

    @torch.no_grad()
    def _compute(self, index: Tensor) -> list[Tensor]:
        kind = self._bank.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self._autocast, cache_enabled=False):
            return list(self._features(self._bank.batch(index).target))

    def describe(self) -> str:
        """Say what is done, for people."""
        done = "kept" if self.kept else "computed for each mini-batch"
        return f"the teacher's features of {len(self._bank)} crops ({self.mib:.0f} MiB) {done}"

    def _compute_all(self) -> list[Tensor]:
        count, device = len(self._bank), self._bank.device
        parts = [self._compute(index) for index in torch.arange(count, device=device).split(_AT_ONCE)]
        return [torch.cat(taps) for taps in zip(*parts, strict=True)]


def _chosen(tap: Tensor, index: Tensor) -> Tensor:
    if is_channels_last(tap):  # what is selected is in the order of the dimensions
        return tap.movedim(1, -1).index_select(0, index).movedim(-1, 1)
    return tap.index_select(0, index)
