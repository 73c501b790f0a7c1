"""Any Python function or module as a teacher."""

import inspect
import json
import marshal
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from fusion_env.errors import ConfigError
from fusion_env.fingerprint import fingerprint as hash_of
from fusion_env.teachers.base import Teacher, check_batch, check_fused
from student.numerics import own_numerics

__all__ = ["FunctionTeacher", "from_callable"]


@own_numerics()
def from_callable(
    function: Callable[[Tensor, Tensor], Tensor], *, name: str, fingerprint: str | None = None
) -> "FunctionTeacher":
    """Make a teacher of a function or a module.

    Args:
        function: Called with infrared [B, 1, H, W] and visible RGB [B, 3, H, W], float32 in 0..1, on the device of the
            data; returns fused luma [B, 1, H, W], which is clamped to 0..1. One image's result must not depend on the
            others of its batch. A module is put into evaluation mode, loses its gradients, and moves with the teacher.
        name: Name for results.
        fingerprint: Changes whenever the function's results do, because targets are cached under it: a version or a
            hash of weights. May be left out for a module, whose tensors, plain attributes and own code are hashed; not
            what the code calls elsewhere.

    Returns:
        The teacher, for inference.

    Raises:
        ConfigError: If a function that is no module comes without fingerprint, or it cannot be called.
    """
    return FunctionTeacher(function, name, fingerprint).eval().requires_grad_(False)


class FunctionTeacher(Teacher):
    """A function or module as a teacher; see `from_callable`."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], name: str, fingerprint: str | None) -> None:
        super().__init__()
        if not callable(function):
            raise ConfigError(
                f"function of teacher {name!r} must be a function or module. Got {type(function).__name__}."
            )
        if fingerprint is None and not isinstance(function, nn.Module):
            raise ConfigError(
                f"fingerprint must be given for teacher {name!r}, as it is a {type(function).__name__} and no module: "
                "a text that changes whenever its results do."
            )
        self.name = name
        self.function = function
        self.settings["function"] = fingerprint if fingerprint is not None else _describe(function)  # type: ignore[arg-type]  # a module

    @classmethod
    def from_weights(cls, weights: Path | None) -> "FunctionTeacher":
        """Refuse: a function has no file; see `from_callable`.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(f"a teacher made of a function cannot be loaded from {weights}; use from_callable.")

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse a batch of registered pairs; see `Teacher.forward`."""
        check_batch(ir=ir, vis=vis)
        return check_fused(self.function(ir, vis), ir, f"teacher {self.name!r}").clamp(0, 1)

    def fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse with the visible image as grey RGB; see `Teacher.fuse_luma`."""
        return self(ir=ir, vis=vis.expand(-1, 3, -1, -1))


def _describe(module: nn.Module) -> str:
    """Name a module's class, with a hash of what its results depend on beside its state dict."""
    texts: list[object] = []
    tensors = {f"buffer {name}": buffer for name, buffer in module.named_buffers()}  # those not saved included
    for name, part in module.named_modules():
        own = {key: value for key, value in vars(part).items() if key not in vars(nn.Module())}
        tensors |= {f"{name} {key}": value for key, value in own.items() if isinstance(value, Tensor)}
        texts.append([name, {key: value for key, value in own.items() if not isinstance(value, Tensor)}])
        texts += [_code(cls) for cls in type(part).__mro__ if cls.__module__.split(".")[0] not in ("torch", "builtins")]
    return f"{type(module).__qualname__} {hash_of(json.dumps(texts, default=_plain, sort_keys=True), tensors)}"


def _plain(value: object) -> object:
    """Return what is the same in every process of a value that JSON does not know."""
    if callable(value):
        return [getattr(value, "__qualname__", type(value).__qualname__), _code(value)]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [type(value).__qualname__, vars(value) if hasattr(value, "__dict__") else ""]


def _code(code: object) -> str:
    """Return the source of a class or function; where none is kept, what it was compiled to."""
    try:
        return inspect.getsource(code)  # type: ignore[arg-type]  # anything else raises TypeError
    except (OSError, TypeError):
        functions = [code, *vars(code).values()] if isinstance(code, type) else [code]
        return "".join(marshal.dumps(f.__code__).hex() for f in functions if inspect.isfunction(f))
