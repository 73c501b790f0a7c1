"""Private streams of random numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

__all__ = ["EXPLORATION", "PREDICTION", "WEIGHTS", "RandomStream"]

# Purposes of streams.
WEIGHTS, PREDICTION, EXPLORATION = range(3)


class RandomStream:
    """A private random-number stream that pickles together with its position.

    The numbers are always drawn on the CPU, so that a seed means the same actions on every device;
    PyTorch's default dtype and device make no difference.

    Args:
        seed: An integer of 0 or more; None takes fresh entropy.
        purpose: Streams of one seed that serve different purposes are independent.
    """

    def __init__(self, seed: int | None, purpose: int) -> None:
        (state,) = np.random.SeedSequence(seed, spawn_key=(purpose,)).generate_state(1, np.uint64)
        self.generator = torch.Generator().manual_seed(int(state))

    def normal(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Draw standard normal numbers of the given shape and move them to `device`."""
        return torch.randn(tuple(shape), generator=self.generator, dtype=torch.float32, device="cpu").to(device)

    def uniform(self, space: spaces.Box, count: int) -> np.ndarray:
        """Draw `count` points [count, ...] of a bounded box."""
        shape = (count, *space.shape)
        share = torch.rand(shape, generator=self.generator, dtype=torch.float64, device="cpu").numpy()
        return (space.low + share * (space.high.astype(np.float64) - space.low)).astype(space.dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {"state": self.generator.get_state().numpy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.generator = torch.Generator()
        self.generator.set_state(torch.from_numpy(state["state"].copy()))
