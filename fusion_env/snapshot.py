"""What snapshots are made of: random generators as text, and the check that a snapshot fits."""

import json

import numpy as np

from fusion_env.config import DistillConfig
from fusion_env.errors import SnapshotError

__all__ = ["check_same_task", "read_generator", "write_generator"]


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


def check_same_task(own: DistillConfig, other: DistillConfig) -> None:
    """Check that two configurations differ in nothing but the machine.

    Raises:
        SnapshotError: They do; the settings are named.
    """
    machine = {"device": "auto", "threads": None, "cache_dir": None}
    mine, theirs = own.replace(**machine).to_dict(), other.replace(**machine).to_dict()
    differing = [f"{name} ({theirs[name]!r}, here {mine[name]!r})" for name in mine if mine[name] != theirs[name]]
    if differing:
        raise SnapshotError(f"the snapshot is of another configuration: {', '.join(differing)}")
