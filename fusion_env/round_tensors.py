"""The fixed tensors through which a round speaks with its iterations, so that these can be captured."""

import torch
from torch import Tensor, nn

from fusion_env.degradation import DegradationTensors

__all__ = ["RoundTensors"]


class RoundTensors:
    """What a round hands to its iterations and gets from them, in tensors that keep their places.

    Attributes:
        index: Crops of each mini-batch, [iterations, batch].
        rates: Step size of each iteration.
        factors: What Eq. 1 and Eq. 2 are multiplied by.
        degradation: The degradation.
        position: Number of the iteration, [1].
        sums: Eq. 1, Eq. 2 and Eq. 3, added up over the iterations so far.
        norms: Of both losses' gradients where they were taken apart.
        weights: The student's, from before the round.
    """

    def __init__(self, student: nn.Module, batch: Tensor, iterations: int) -> None:
        device = batch.device
        self.index = torch.zeros((iterations, len(batch)), dtype=torch.int64, device=device)
        self.rates = torch.zeros(iterations, device=device)
        self.factors = torch.zeros(2, device=device)
        self.degradation = DegradationTensors(batch)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.sums = torch.zeros(3, device=device)
        self.norms = torch.zeros(2, device=device)
        self.weights = [parameter.detach().clone() for parameter in student.parameters()]

    def now(self, values: Tensor) -> Tensor:
        """Return the values of this iteration."""
        return values.index_select(0, self.position)[0]
