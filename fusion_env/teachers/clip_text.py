"""The text feature of Text-IF: stored in a file, or what CLIP ViT-B/32 encodes a prompt to.

open_clip is imported where it is used: that takes about a second, and a stored feature does without.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fusion_env.teachers.published import load_part
from student.weights import WeightsError, bare_name, read_torch

if TYPE_CHECKING:
    import open_clip

__all__ = [
    "FEATURE_FILES",
    "FEATURE_SIZE",
    "build_clip",
    "encode_prompt",
    "find_feature",
    "prompt_tokens",
    "read_feature",
]

FEATURE_SIZE = 512
FEATURE_FILES = ("text_feature.npy", "text_feature.pt", "text_feature.safetensors")

_MODEL = "ViT-B-32-quickgelu"
_OTHER_SIDE = ("visual.", "logit_scale")


def build_clip() -> open_clip.CLIP:
    """Build OpenAI's CLIP ViT-B/32, 151.277313 M parameters, with random weights, for counting."""
    import open_clip

    with torch.random.fork_rng(devices=[]):  # the global random state is left as it was
        return open_clip.CLIP(**open_clip.get_model_config(_MODEL)).eval()


def prompt_tokens(prompt: str) -> Tensor:
    """Return CLIP's tokens of a prompt, int64 [1, 77]; a longer one is cut."""
    import open_clip

    return open_clip.tokenize([prompt])


@torch.no_grad()
def encode_prompt(state: Mapping[str, object], prompt: str, source: str) -> Tensor:
    """Encode a prompt by the text side of CLIP ViT-B/32.

    Args:
        state: CLIP's state dict, as OpenAI names the tensors; those of the image side are not used.
        prompt: The text.
        source: Where the state is from, for the error message.

    Returns:
        The feature [1, 512], float32, not normalised, on the CPU.

    Raises:
        WeightsError: If the text side does not fit, strictly.
    """
    from open_clip.transformer import QuickGELU, TextTransformer

    with torch.random.fork_rng(devices=[]):  # the initial values are overwritten
        text_side = TextTransformer(act_layer=QuickGELU)  # the other sizes of ViT-B/32 are open_clip's defaults
    own = {key: value for key, value in state.items() if not bare_name(key).startswith(_OTHER_SIDE)}
    load_part(text_side, own, f"{source}, text side of CLIP")
    return text_side.eval()(prompt_tokens(prompt))


def find_feature(folder: Path) -> Path | None:
    """Find a stored text feature.

    Args:
        folder: Where one of `FEATURE_FILES` may be.

    Returns:
        Its path; None if there is none.

    Raises:
        WeightsError: If there are several.
    """
    found = [folder / name for name in FEATURE_FILES if (folder / name).is_file()]
    if len(found) > 1:
        raise WeightsError(f"{folder} has {' and '.join(path.name for path in found)}; keep one.")
    return found[0] if found else None


def read_feature(path: Path) -> Tensor:
    """Read a stored text feature without running code that the file may hold.

    Args:
        path: A NumPy array, a tensor that torch.save wrote, or a safetensors file with one tensor.

    Returns:
        The feature [1, 512], float32, on the CPU.

    Raises:
        WeightsError: If the file is damaged or holds anything else.
    """
    content: object
    try:
        if path.suffix == ".npy":
            content = torch.from_numpy(np.load(path, allow_pickle=False))
        elif path.suffix == ".pt":
            content = read_torch(path)
        else:
            (content,) = safetensors.torch.load_file(path).values()
    except (EOFError, OSError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a file with one array ({error}).") from error
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is not a complete safetensors file ({error}).") from error
    if not isinstance(content, Tensor) or content.shape != (1, FEATURE_SIZE) or not content.is_floating_point():
        got = f"{content.dtype} {tuple(content.shape)}" if isinstance(content, Tensor) else type(content).__name__
        raise WeightsError(f"{path} must hold floating-point numbers of shape (1, {FEATURE_SIZE}). Got {got}.")
    return content.float()
