"""Where a task keeps its images: on the device if that has room for them, else on the host."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

__all__ = ["Place", "Places", "choose_places", "free_bytes"]

_SHARE = 0.5


@dataclass(frozen=True)
class Place:
    """Where one kind of images is kept.

    Attributes:
        nbytes: The memory that it takes.
        streamed: It is on the host, and mini-batches of it are brought to the device.
    """

    nbytes: int
    streamed: bool


@dataclass(frozen=True)
class Places:
    """Where all images of a task are kept.

    Attributes:
        device: What everything is computed on.
        free: Bytes that were free there; None on a CPU, whose memory is the host's.
        kinds: The place of each kind of images.
    """

    device: torch.device
    free: int | None
    kinds: Mapping[str, Place]

    @property
    def any_streamed(self) -> bool:
        """Whether something found no room on the device."""
        return any(place.streamed for place in self.kinds.values())

    def describe(self) -> str:
        """Say what is kept where and why, for people."""
        where = {False: f"on {self.device}", True: f"on the host, brought to {self.device} in mini-batches"}
        parts = [f"{kind} {place.nbytes / 2**20:.0f} MiB {where[place.streamed]}" for kind, place in self.kinds.items()]
        text = ", ".join(parts)
        if self.free is None:
            return text
        return f"{text} (half of the {self.free / 2**20:.0f} MiB that were free there is for images)"


def choose_places(device: torch.device, needed: Mapping[str, int]) -> Places:
    """Give images a place on the device as long as they take no more than half of what is free there.

    The other half is left to the networks.

    Args:
        device: What everything is computed on.
        needed: Bytes of each kind of images, the most used one first.
    """
    free = free_bytes(device)
    left = float("inf") if free is None else _SHARE * free
    kinds = {}
    for kind, size in needed.items():
        kinds[kind] = Place(size, streamed=size > left)
        left -= 0 if kinds[kind].streamed else size
    return Places(device, free, kinds)


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that is free on a device; None for a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
