"""Batch normalisation by the statistics of the image at hand, as some official scripts run their networks."""

from torch import nn

__all__ = ["use_batch_statistics"]


def use_batch_statistics(network: nn.Module) -> None:
    """Let every batch normalisation of a network use the statistics of its input and leave the stored ones alone.

    This is what PyTorch's training mode computes, without its side effect. The statistics are those of the whole batch,
    so that the network must be given one image at a time.

    Args:
        network: Changed in place; ``eval()`` undoes it, so that this has to be called again afterwards.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.training = True
            module.track_running_stats = False
