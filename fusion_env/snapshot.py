"""What snapshots are made of: tensors on the CPU and random generators as text; and whether a snapshot fits."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from fusion_env.config import MACHINE_ONLY, DistillConfig
from fusion_env.errors import SnapshotError
from fusion_env.identity import Fingerprints, differences

__all__ = ["SNAPSHOT_VERSION", "check_same_task", "check_version", "read_generator", "to_cpu", "write_generator"]

_logger = logging.getLogger(__name__)

SNAPSHOT_VERSION = 3


def to_cpu(value: Any) -> Any:
    """Copy a tree of dictionaries, lists and tuples, with every tensor on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: to_cpu(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_cpu(member) for member in value)
    return value


def write_generator(generator: np.random.Generator) -> str:
    """Return a generator's state as JSON, which keeps its 128-bit integers exactly."""
    return json.dumps(generator.bit_generator.state)


def read_generator(state: str) -> np.random.Generator:
    """Return a generator in the state that `write_generator` returned.

    Raises:
        SnapshotError: The text is not such a state.
    """
    generator = np.random.Generator(np.random.PCG64())
    try:
        generator.bit_generator.state = json.loads(state)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise SnapshotError(f"the snapshot holds no random generator but {str(state)[:80]!r}") from error
    return generator


def check_version(state: Mapping[str, Any]) -> None:
    """Check the format of a snapshot.

    Raises:
        SnapshotError: It has another format version.
    """
    if state.get("version") != SNAPSHOT_VERSION:
        raise SnapshotError(f"snapshot version {state.get('version')!r} is not {SNAPSHOT_VERSION}: make a new one")


def check_same_task(
    recorded: tuple[DistillConfig, Fingerprints | None], here: tuple[DistillConfig, Fingerprints]
) -> None:
    """Check that two tasks differ in nothing but the machine.

    Args:
        recorded: Configuration and fingerprints of the snapshot; older ones have no fingerprints.
        here: Those of the task that it shall continue in.

    Raises:
        SnapshotError: They differ; the settings and contents are named.
    """
    config, fingerprints = recorded
    if fingerprints is None:
        _logger.info("the snapshot has no fingerprints: whether data and networks are the same cannot be checked")
    differing = differences((config, fingerprints or {}), here, ignored=MACHINE_ONLY)
    if differing:
        raise SnapshotError(f"the snapshot is of another configuration: {differing}")
