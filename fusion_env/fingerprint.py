"""The one hash by which cached results and networks are told apart."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["fingerprint"]


def fingerprint(text: str, tensors: Mapping[str, Tensor] | None = None) -> str:
    """Hash a text and tensors.

    Args:
        text: What beside the tensors counts: a name, settings.
        tensors: By name; their order does not matter, nor does the device.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted((tensors or {}).items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
