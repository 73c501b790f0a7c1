"""What both embedded networks share: the local moments they start from, their fingerprint, and loading of weights."""

import hashlib
import importlib.resources
import os
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor, nn

from fusion_env.errors import MissingRequirementsError
from fusion_env.metrics.windows import gaussian_window
from student.weights import load_into, load_state

__all__ = ["hash_network", "load_frozen", "local_moments"]

_WINDOW = gaussian_window(7, 7 / 6)
_RADIUS_PX = len(_WINDOW) // 2

N = TypeVar("N", bound=nn.Module)


def local_moments(luma: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance around each pixel.

    The window is the Gaussian of natural scene statistics (Mittal et al., "No-reference image quality assessment in the
    spatial domain", 2012): 7x7 pixels, standard deviation 7/6 px, border reflected. Computed in float32 even under
    autocast, for the variance is a difference of nearly equal numbers. Differentiable.

    Args:
        luma: [B, 1, H, W] in 0..1, H and W at least 4.

    Returns:
        Mean and variance, [B, 1, H, W] each; the variance is not negative.
    """
    with torch.autocast(luma.device.type, enabled=False):
        luma = luma.float()
        rows = _window_matrix(luma.shape[-2], luma.device)
        columns = _window_matrix(luma.shape[-1], luma.device).T
        # Two products with banded matrices: one-channel convolutions are several times slower on a CPU.
        mean = rows @ (luma @ columns)
        variance = rows @ (luma.square() @ columns) - mean.square()
    return mean, variance.clamp_min(0)


@lru_cache(maxsize=64)
def _window_matrix(size: int, device: torch.device) -> Tensor:
    """Return the [size, size] matrix that averages a line of pixels with reflected border."""
    if size <= _RADIUS_PX:
        raise ValueError(f"Height and width must be at least {_RADIUS_PX + 1} pixels. Got {size}.")
    # A tensor made in inference mode could never again take part in a backward pass, and this one is kept.
    with torch.inference_mode(False):
        matrix = torch.zeros(size, size)
        pixels = torch.arange(size)
        for offset, weight in enumerate(_WINDOW, start=-_RADIUS_PX):
            reflected = (size - 1) - ((size - 1) - (pixels + offset).abs()).abs()
            matrix[pixels, reflected] += weight
        return matrix.to(device)


def hash_network(network: nn.Module, settings: tuple[object, ...]) -> str:
    """Hash weights and settings, to tell cached results of different networks apart.

    Args:
        network: Of which class and tensors are hashed.
        settings: Constants that the output depends on.

    Returns:
        The first 16 hexadecimal digits of a SHA-256; independent of the device.
    """
    digest = hashlib.sha256(repr((type(network).__name__, settings)).encode())
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:16]


def load_frozen(network: N, asset: str, weights: str | os.PathLike[str] | None) -> N:
    """Fill a network with trained weights and freeze it, in evaluation mode.

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
        return network.eval().requires_grad_(False)
    own = importlib.resources.files("fusion_env") / "assets" / asset
    if not own.is_file():
        raise MissingRequirementsError(f"{own}, a part of this package, is missing; install the package again.")
    with importlib.resources.as_file(own) as path:
        load_into(network, load_state(path), str(path))
    return network.eval().requires_grad_(False)
