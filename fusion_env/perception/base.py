"""What all frozen networks share: no gradients to weights, evaluation mode, a fingerprint, weights of this package."""

import json
import os
from collections.abc import Mapping
from typing import TypeVar

from torch import nn

from fusion_env.fingerprint import fingerprint
from fusion_env.packaged import packaged
from student.weights import load_into, load_state

__all__ = ["FrozenNetwork", "load_embedded"]


class FrozenNetwork(nn.Module):
    """Base of all networks that judge images: no trainable parameters once frozen, always in evaluation mode.

    Feature networks map luma [B, 1, H, W] in 0..1 to a list of tensors, one for each tap. Quality scores map luma or
    RGB [B, 1 or 3, H, W] in 0..1 to [B] scores in 0..1, higher is better.

    Attributes:
        description: What this network is and where its weights are from, in one line.
        settings: JSON-ready values other than weights that the output depends on.
    """

    def __init__(self, description: str, settings: Mapping[str, object]) -> None:
        super().__init__()
        self.description = description
        self.settings = dict(settings)

    def freeze(self: "N") -> "N":
        """Stop all gradients to parameters and switch to evaluation mode; call it once the weights are there."""
        return self.requires_grad_(False).eval()

    def train(self: "N", mode: bool = True) -> "N":
        """Stay in evaluation mode, whatever a module that contains this one asks for."""
        return super().train(False)

    def fingerprint(self) -> str:
        """Hash weights and settings; equal networks agree on every device."""
        text = json.dumps([type(self).__name__, self.settings], sort_keys=True)
        return fingerprint(text, self.state_dict())


N = TypeVar("N", bound=FrozenNetwork)


def load_embedded(network: N, asset: str, weights: str | os.PathLike[str] | None) -> N:
    """Fill an embedded network with trained weights and freeze it.

    Args:
        network: The network, on the CPU.
        asset: File name of the package's own weights.
        weights: A file to use instead of them.

    Returns:
        The same network.

    Raises:
        MissingRequirementsError: If the package was installed without its assets.
        WeightsError: If the file cannot be read or does not fit.
    """
    if weights is not None:
        load_into(network, load_state(weights), str(weights))
        return network.freeze()
    with packaged(asset) as path:
        load_into(network, load_state(path), str(path))
    return network.freeze()
