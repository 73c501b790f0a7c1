"""VGG-19 features for the guidance loss: the five taps of arXiv 2509.02424, Eq. 1.

The network is that of Simonyan and Zisserman (arXiv 1409.1556); its weights are torchvision's ``IMAGENET1K_V1``.
"""

import math
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import VGG19_Weights

from fusion_env.errors import MissingRequirementsError
from fusion_env.perception.base import FrozenNetwork
from student.layout import is_channels_last
from student.weights import bare_name, load_into, load_state

__all__ = ["TAP_LAYERS", "VggFeatures", "load_vgg19", "untrained_vgg19"]

TAP_LAYERS = {"conv1_1": 0, "conv2_1": 5, "conv3_1": 10, "conv4_2": 21, "conv5_2": 30}
"""Taps of Eq. 1 and their index in torchvision's ``vgg19().features``."""

_BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # channels, convolutions
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_SMALLEST_SIDE = 16  # four poolings precede the last tap


class VggFeatures(FrozenNetwork):
    """Features of a luma image at five layers of VGG-19.

    The luma is repeated to three channels and normalised with ImageNet's mean and deviation. Layers behind the last tap
    are dropped.

    Args:
        state: Weights under torchvision's names, ``features.0.weight`` to ``features.34.bias``.
        taps: ``"before_relu"`` reads the convolutions' output, ``"after_relu"`` the activations.
        source: Where the weights are from, for messages.

    Raises:
        ValueError: If ``taps`` is unknown.
        WeightsError: If ``state`` does not hold exactly VGG-19's convolutions.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, state: Mapping[str, Tensor], taps: str = "before_relu", source: str = "given weights") -> None:
        if taps not in ("before_relu", "after_relu"):
            raise ValueError(f"taps must be 'before_relu' or 'after_relu'. Got {taps!r}.")
        super().__init__(
            f"VGG-19 features {taps.replace('_', ' ')} at {', '.join(TAP_LAYERS)} ({source})", {"taps": taps}
        )
        layers = _convolutional_part()
        load_into(nn.ModuleDict({"features": layers}), state, source)
        self.stages = _split(layers, after_relu=taps == "after_relu")
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.freeze()

    def forward(self, luma: Tensor) -> list[Tensor]:
        """Compute the features.

        Args:
            luma: Images [B, 1, H, W], 0..1, sides of 16 pixels or more.

        Returns:
            Five tensors [B, C, H / s, W / s]: C = 64, 128, 256, 512, 512 and s = 1, 2, 4, 8, 16.

        Raises:
            ValueError: If the shape is another one.
        """
        if luma.ndim != 4 or luma.shape[1] != 1 or min(luma.shape[-2:]) < _SMALLEST_SIDE:
            raise ValueError(
                f"luma must be [B, 1, H, W] with sides of {_SMALLEST_SIDE} pixels or more. Got {tuple(luma.shape)}."
            )
        current = self._standardised(luma)
        features = []
        for stage in self.stages:
            current = stage(current)
            features.append(current)
        return features

    def _standardised(self, luma: Tensor) -> Tensor:
        """Return three channels, in the order of memory of the weights that they will meet."""
        if not is_channels_last(next(self.parameters())):
            return (luma - self.mean) / self.std
        return ((luma.movedim(1, -1) - self.mean.flatten()) / self.std.flatten()).movedim(-1, 1)


def load_vgg19(weights: str | Path | None = None, taps: str = "before_relu") -> VggFeatures:
    """Load VGG-19 with trained weights.

    Args:
        weights: A torchvision ``vgg19`` state dict, with or without the classifier, as PyTorch or safetensors file;
            None takes torchvision's ``IMAGENET1K_V1`` from torch hub's cache or its makers' server.
        taps: ``"before_relu"`` or ``"after_relu"``.

    Raises:
        MissingRequirementsError: If the published weights can be neither found nor fetched.
        WeightsError: If the file cannot be read or holds another network.
    """
    if weights is None:
        return VggFeatures(_without_classifier(_published_state()), taps, "torchvision IMAGENET1K_V1")
    return VggFeatures(_without_classifier(load_state(weights)), taps, str(weights))


def untrained_vgg19(seed: int = 0, taps: str = "before_relu") -> VggFeatures:
    """Build VGG-19 with random weights: He normal, biases 0. For tests; its features mean nothing.

    Args:
        seed: Seed of a generator of its own.
        taps: ``"before_relu"`` or ``"after_relu"``.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, parameter in _convolutional_part().named_parameters(prefix="features"):
        if name.endswith("bias"):
            state[name] = torch.zeros(parameter.shape)
        else:
            deviation = math.sqrt(2 / parameter[0].numel())
            state[name] = torch.empty(parameter.shape).normal_(0, deviation, generator=generator)
    return VggFeatures(state, taps, f"UNTRAINED, seed {seed}")


def _convolutional_part() -> nn.Sequential:
    """Build torchvision's ``vgg19().features`` with uninitialised parameters, so that no random number is drawn."""
    layers: list[nn.Module] = []
    channels = 3
    for width, count in _BLOCKS:
        for _ in range(count):
            convolution = nn.utils.skip_init(nn.Conv2d, channels, width, kernel_size=3, padding=1)
            layers += [convolution, nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _split(layers: nn.Sequential, after_relu: bool) -> nn.ModuleList:
    """Cut the layers into stages that end at the taps."""
    stages = []
    start = 0
    for tap in TAP_LAYERS.values():
        end = tap + (2 if after_relu else 1)
        stage = layers[start:end]
        if isinstance(stage[0], nn.ReLU):
            stage[0] = nn.ReLU()  # in place it would overwrite the tap before it
        stages.append(stage)
        start = end
    return nn.ModuleList(stages)


def _without_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not bare_name(name).startswith("classifier.")}


def _published_state() -> Mapping[str, Tensor]:
    published = VGG19_Weights.IMAGENET1K_V1
    try:
        return published.get_state_dict(progress=False, check_hash=True, weights_only=True)
    # In this order: no connection or no space, wrong checksum or truncated file, empty file, damaged file.
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise MissingRequirementsError(
            "the weights of torchvision's VGG-19 (IMAGENET1K_V1) can be neither read from "
            f"{torch.hub.get_dir()}/checkpoints nor fetched ({error}). Download {published.url} and set "
            "perception_weights to the file, or choose perception='embedded', which needs no download."
        ) from error
