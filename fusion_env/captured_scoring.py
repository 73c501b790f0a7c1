"""Scores of one student as graphs: all that is computed of so many images of one size is one launch of the host."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusion_env.captured import Graph, Replayed
from fusion_env.scoring import Scorer

__all__ = ["CapturedScoring"]


@dataclass(frozen=True)
class _Piece:
    """Images that are scored at once."""

    size: int
    """Number of their size, as the scorer has it."""
    count: int


@dataclass(frozen=True)
class _Places:
    """Tensors that the graphs of one piece read and write."""

    index: Tensor
    values: Tensor


class CapturedScoring:
    """Gives the values that `Scorer.rate_student` gives, by graphs where the images are on the device.

    Images on the host are scored operation by operation: a graph cannot fetch what was not chosen when it was made.

    Args:
        scorer: Computes the values.
        student: Whose weights keep their places.
        new_graph: Makes graphs.
    """

    def __init__(self, scorer: Scorer, student: nn.Module, new_graph: Callable[[], Graph]) -> None:
        self._scorer, self._student = scorer, student
        self._replayed: Replayed[_Piece] = Replayed(new_graph)
        self._tensors: dict[_Piece, _Places] = {}

    def __call__(self, size: int, index: Tensor) -> Tensor:
        """Return the values of some images; see `fusion_env.scoring.Rate`."""
        if self._scorer.images[size].streamed_to is not None:
            return self._scorer.rate_student(self._student, size, index)
        piece = _Piece(size, len(index))
        if piece not in self._tensors:
            values = torch.empty((len(self._scorer.columns), len(index)), device=index.device)
            self._tensors[piece] = _Places(torch.empty_like(index), values)
        places = self._tensors[piece]
        places.index.copy_(index)
        self._replayed(self._rate, piece, tuple(p.data_ptr() for p in self._student.parameters()))
        return places.values.clone()

    def _rate(self, piece: _Piece) -> None:
        places = self._tensors[piece]
        places.values.copy_(self._scorer.rate_student(self._student, piece.size, places.index))
