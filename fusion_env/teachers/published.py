"""Networks of other makers: find the files that they publish, read them without running code, load them strictly."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from fusion_env.errors import MissingRequirementsError
from fusion_env.fingerprint import sha256_of
from fusion_env.teachers.base import Published, Teacher
from student.weights import WeightsError, bare_name, load_into, load_state, read_torch

__all__ = [
    "OfficialFile",
    "PublishedTeacher",
    "check_names",
    "check_tensors",
    "find_official",
    "load_part",
    "read_official",
    "weights_folder",
]

WEIGHTS_VARIABLE = "FUSION_ENV_WEIGHTS"

_SHOWN_NAMES = 3

T = TypeVar("T", bound="PublishedTeacher")


@dataclass(frozen=True)
class OfficialFile:
    """A file of weights as its makers publish it.

    Attributes:
        path: The file.
        content: What it holds, not checked: a state dict, or entries that hold state dicts.
    """

    path: Path
    content: Mapping[str, object]


class PublishedTeacher(Teacher):
    """A network with the weights that its makers publish.

    A subclass sets ``published``, builds the network without arguments, and, unless its weights are one file with one
    bare state dict of the same keys, overrides `load_official`.
    """

    published: ClassVar[Published]

    @classmethod
    def from_weights(cls: type[T], weights: Path | None) -> T:
        """Build the network from its official files or from one file with its own state dict.

        Args:
            weights: The folder that holds the official files, one of them, or any one file in the official layout or
                with the network's own keys (a saved ``state_dict()``). None: the folder
                ``$FUSION_ENV_WEIGHTS/NAME``.

        Raises:
            MissingRequirementsError: If no weights are named or a file is missing.
            student.WeightsError: If a file is damaged or does not fit; the network is loaded strictly.
        """
        paths = find_official(cls.name, cls.published, weights)
        teacher = cls()
        try:
            files = {name: OfficialFile(path, read_official(path)) for name, path in paths.items()}
            first = next(iter(files.values()))
            is_own = {bare_name(str(key)) for key in first.content} == teacher.state_dict().keys()
            if is_own or files.keys() != set(cls.published.files):
                load_part(teacher, first.content, str(first.path))
            else:
                teacher.load_official(files)
        except WeightsError as error:
            raise WeightsError(f'teacher "{cls.name}": {error} {_published_at(cls.published)}') from error
        teacher.checksums |= {path.name: sha256_of(path) for path in paths.values()}
        return teacher

    @classmethod
    def missing(cls, weights: Path | None) -> str | None:
        """Say which official files are missing; see `Teacher.missing`."""
        try:
            find_official(cls.name, cls.published, weights)
        except MissingRequirementsError as error:
            return str(error)
        return None

    def load_official(self, files: Mapping[str, OfficialFile]) -> None:
        """Load the official files, strictly, part by part with `load_part`.

        Args:
            files: The files by official name. Where one file is enough, whatever file the caller names is found under
                the official name.

        Raises:
            WeightsError: If a file does not fit.
        """
        (file,) = files.values()
        load_part(self, file.content, str(file.path))


def load_part(module: nn.Module, state: object, source: str) -> None:
    """Load a state dict that comes from a file into a network or a part of one, strictly.

    Args:
        module: The network; unchanged if keys or shapes differ.
        state: Should be tensors by key; floating ones are loaded as float32.
        source: The file, for the error message.

    Raises:
        WeightsError: If it is anything else, has NaN or infinite values, or keys or shapes differ.
    """
    load_into(module, check_tensors(state, source), source)
    # Only now, as tensors of other shapes may only pretend to be of a size that could be looked through.
    bad = [key for key, value in module.state_dict().items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise WeightsError(f"{source}: tensor {bad[0]!r} has NaN or infinite values.")


def check_tensors(state: object, source: str) -> dict[str, Tensor]:
    """Check that something from a file is a state dict, whatever its keys and shapes.

    Args:
        state: Should be plain tensors by key.
        source: The file, for the error message.

    Returns:
        A copy, with the same tensors.

    Raises:
        WeightsError: If it is anything else.
    """
    if not isinstance(state, Mapping):
        raise WeightsError(f"{source} holds a {type(state).__name__} where tensors by name are expected.")
    for key, value in state.items():
        if not isinstance(key, str):
            raise WeightsError(f"{source}: {key!r} is a {type(key).__name__}, not a tensor's name.")
        if not isinstance(value, Tensor):
            raise WeightsError(f"{source}: entry {key!r} is a {type(value).__name__}, not a tensor.")
        if value.layout != torch.strided or value.is_nested or value.is_quantized or value.is_meta:
            raise WeightsError(f"{source}: {key!r} is a sparse, nested, quantised or empty (meta) tensor.")
    return dict(state)


def check_names(found: Iterable[object], expected: Iterable[str], what: str, source: str) -> None:
    """Compare the names in a file with those that the official one has.

    Args:
        found: Those in the file.
        expected: Those that must be there, and no other.
        what: What has these names, in the plural, for the error message.
        source: The file, for the error message.

    Raises:
        WeightsError: If they differ; names the first missing and unexpected ones and counts all.
    """
    own, right = {str(name) for name in found}, set(expected)
    problems = []
    for kind, names in (("missing", sorted(right - own)), ("unexpected", sorted(own - right))):
        if names:
            shown = ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
            problems.append(f"{len(names)} {kind} {what}: {shown}")
    if problems:
        raise WeightsError(f"{source} must have {len(right)} {what}: {'; '.join(problems)}.")


def weights_folder() -> Path | None:
    """Return the folder that ``FUSION_ENV_WEIGHTS`` names, or None; weights of teacher NAME are in its folder NAME."""
    folder = os.environ.get(WEIGHTS_VARIABLE)
    return Path(folder).expanduser() if folder else None


def find_official(name: str, published: Published, weights: Path | None) -> dict[str, Path]:
    """Find a network's official files.

    Args:
        name: The teacher's name.
        published: Which files.
        weights: See `PublishedTeacher.from_weights`.

    Returns:
        Paths by official file name. A single file of a network that needs several, and with another name than theirs,
        is returned under its own name: it can only hold the network's own state dict.

    Raises:
        MissingRequirementsError: If no weights are named or a file is missing.
    """
    if weights is None and (root := weights_folder()) is not None:
        weights = root / (published.folder or name)
    if weights is None:
        problem = "no weights are given"
    elif not weights.exists():
        problem = f"{weights} does not exist"
    elif weights.is_file() and len(published.files) == 1:
        return {published.files[0]: weights}
    elif weights.is_file() and weights.name not in published.files:
        return {weights.name: weights}
    else:
        parent = weights.parent if weights.is_file() else weights
        absent = [file for file in published.files if not (parent / file).is_file()]
        if not absent:
            return {file: parent / file for file in published.files}
        problem = f"folder {parent} has no {' and no '.join(absent)}"
    raise MissingRequirementsError(
        f'teacher "{name}": {problem}. {_published_at(published)} Let the setting teacher_weights point to their '
        f'folder, or keep them in ${WEIGHTS_VARIABLE}/{published.folder or name}. teacher="embedded" needs no weights.'
    )


def read_official(path: Path) -> Mapping[str, object]:
    """Read a checkpoint without running code that it may hold.

    Args:
        path: A PyTorch file of tensors, plain values and containers of them, or a safetensors file.

    Returns:
        Its content on the CPU, entries not checked.

    Raises:
        WeightsError: If the file holds other Python objects (which could run code), is damaged, or is no mapping.
    """
    with path.open("rb") as file:
        is_safetensors = file.read(9)[8:] == b"{"
    content = load_state(path) if is_safetensors else read_torch(path)
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a state dict (tensors by name).")
    return content


def _published_at(published: Published) -> str:
    return f"Its makers publish {' and '.join(published.files)} at {published.repository}."
