"""Files that hold an agent and its environment between two rounds."""

import hashlib
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

import agents
from experiments.running.directory import RunDirectory
from fusion_env.errors import SnapshotError
from fusion_env.run import LastRun
from student.files import write_atomic

__all__ = ["Checkpoint", "load_newest", "save_checkpoint"]

_logger = logging.getLogger(__name__)

_MAGIC = b"fusion_env checkpoint 3 "
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands.

    Attributes:
        rounds: Rounds done.
        runs: Runs finished, of each student.
        seconds: Training time so far.
        log: Values that wait for the next entry of the log, as `experiments.running.log.pending_values` returns them.
        updates: Updates that changed the policy so far.
        delivered: What the last run of each student left behind that has finished all of its runs.
    """

    rounds: int
    runs: Sequence[int]
    seconds: float
    log: str = "{}"
    updates: int = 0
    delivered: Mapping[int, LastRun] = field(default_factory=dict)


def save_checkpoint(directory: RunDirectory, at: Checkpoint, agent: BaseAlgorithm, env: VecEnv) -> None:
    """Write the agent and the state of its environments, atomically, and keep the checkpoint before.

    Raises:
        SnapshotError: It cannot be written; those on disk are as they were.
    """
    agent_file, file = io.BytesIO(), io.BytesIO()
    agents.save_state(agent, agent_file)
    state = {
        **vars(at),
        "runs": list(at.runs),
        "delivered": {
            student: {**vars(last), "actions": torch.from_numpy(last.actions)} for student, last in at.delivered.items()
        },
        "agent": torch.frombuffer(bytearray(agent_file.getvalue()), dtype=torch.uint8),
        "envs": env.env_method("state_dict"),
    }
    torch.save(state, file)
    payload = file.getvalue()
    path = directory.checkpoint(at.rounds)
    try:
        write_atomic(path, _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
    except OSError as error:
        raise SnapshotError(
            f"checkpoint {path} cannot be written ({error.strerror}); those before it are intact: make room or set "
            "the rights, and resume"
        ) from error
    directory.remove_checkpoints(but=_KEPT)


def load_newest(directory: RunDirectory, agent_name: str, env: VecEnv) -> tuple[BaseAlgorithm, Checkpoint] | None:
    """Put an environment into the newest intact saved state and return the saved agent, attached to it.

    Returns:
        None if there is no checkpoint.

    Raises:
        SnapshotError: There are checkpoints, and none of them is intact.
    """
    problems = []
    for path in reversed(directory.checkpoints()):
        try:
            state = _read(path)
        except SnapshotError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            _logger.warning("%s; going on from %s", problem, path.name)
        return _restore(state, agent_name, env)
    if problems:
        raise SnapshotError(f"{'; '.join(problems)}. Delete {directory.path} to start again")
    return None


def _read(path: Path) -> dict[str, Any]:
    header, _, payload = path.read_bytes().partition(b"\n")
    if not header.startswith(_MAGIC):
        raise SnapshotError(f"{path} is not a checkpoint of this version")
    if header.removeprefix(_MAGIC).decode(errors="replace") != hashlib.sha256(payload).hexdigest():
        raise SnapshotError(f"{path} is damaged (its checksum is another one)")
    return torch.load(io.BytesIO(payload), weights_only=True)


def _restore(state: dict[str, Any], agent_name: str, env: VecEnv) -> tuple[BaseAlgorithm, Checkpoint]:
    env.reset()  # readies the wrappers; the environment's own state follows
    older = "env" in state  # with one student
    for index, student in enumerate([state["env"]] if older else state["envs"]):
        env.env_method("load_state_dict", student, indices=index)
    agent = agents.load_state(agent_name, io.BytesIO(state["agent"].numpy().tobytes()), env)
    updates = state.get("updates", agents.gradient_updates(agent))  # not counted by older versions
    runs = [state["runs"]] if older else state["runs"]
    delivered = {
        student: LastRun(**{**last, "actions": last["actions"].numpy()})
        for student, last in state.get("delivered", {}).items()
    }
    return agent, Checkpoint(state["rounds"], runs, state["seconds"], state["log"], updates, delivered)
