"""The training loop of the networks that the package trains for itself."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from fusion_env.errors import ConfigError
from student.files import write_atomic

__all__ = ["Checkpoint", "as_options", "fit", "one_cycle", "seeded", "train_from_scratch"]

N = TypeVar("N", bound=nn.Module)


def seeded(build: Callable[[], N], seed: int) -> N:
    """Make a network with the initial weights of a seed; the global random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def one_cycle(optimiser: torch.optim.Optimizer, steps: int, warm_up: float) -> OneCycleLR:
    """Let the learning rate rise to the optimiser's own over a share `warm_up` of the steps, and fall to nothing."""
    return OneCycleLR(optimiser, optimiser.defaults["lr"], total_steps=steps, pct_start=warm_up)


def as_options(settings: Any) -> str:
    """Write those settings of a dataclass that are not the default as options of a command, each after a space."""
    changed = [item.name for item in fields(settings) if getattr(settings, item.name) != item.default]
    return "".join(f" --{name.replace('_', '-')} {getattr(settings, name)}" for name in changed)


@dataclass(frozen=True)
class Checkpoint:
    """A training in a file, from which the same command goes on.

    Attributes:
        path: The file.
        made_with: Settings, fingerprints and the like that the training depends on, by name.
        network: What is trained.
        optimiser: Of its parameters.
        schedule: Of its learning rate.
        every: Steps between two writings.
    """

    path: Path
    made_with: Mapping[str, str | float]
    network: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: OneCycleLR
    every: int

    def resume(self) -> int:
        """Take on the state in the file, if there is one; return how many steps it had done.

        Raises:
            ConfigError: It is damaged, of an earlier version, or of a training with other settings.
        """
        if not self.path.exists():
            return 0
        try:
            state = torch.load(self.path, weights_only=True)
            of_file = state["made_with"]
        except Exception as error:  # torch.load raises many types for a damaged file
            raise ConfigError(f"{self.path} is damaged, or of an earlier version: delete it to begin anew") from error
        for name, value in self.made_with.items():
            if of_file.get(name) != value:
                raise ConfigError(
                    f"{self.path} is of an unfinished training with {name} {of_file.get(name)} in place of {value}: "
                    "give it the same again, choose another --out, or delete the file"
                )
        for name in ("network", "optimiser", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        return state["done"]

    def keep(self, done: int) -> None:
        """Write the state after so many steps, if it is time to."""
        if done % self.every:
            return
        schedule = {name: value for name, value in self.schedule.state_dict().items() if not callable(value)}
        state = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        buffer = io.BytesIO()
        torch.save(state | {"schedule": schedule, "done": done, "made_with": dict(self.made_with)}, buffer)
        write_atomic(self.path, buffer.getvalue())


def fit(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: OneCycleLR,
    loss_at: Callable[[int], Tensor],
    title: str,
    *,
    start: int = 0,
    after_step: Callable[[int], None] = lambda done: None,
) -> None:
    """Minimise a loss, with gradients of norm 1 at most, until the schedule ends.

    Args:
        network: What is trained; set to training mode.
        optimiser: Of its parameters.
        schedule: Of its learning rate.
        loss_at: Returns the loss of a step, counted from 0.
        title: Of the progress bar.
        start: Steps that are done already.
        after_step: Called with the number of steps done, after each.
    """
    network.train()
    mean_loss = None
    steps = range(start, schedule.total_steps)
    for step in (bar := tqdm(steps, title, initial=start, total=schedule.total_steps, mininterval=1.0)):
        loss = loss_at(step)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        mean_loss = loss.item() if mean_loss is None else 0.98 * mean_loss + 0.02 * loss.item()
        bar.set_postfix(loss=f"{mean_loss:.4f}", refresh=False)
        after_step(step + 1)


def train_from_scratch(
    build: Callable[[], N], loss_of: Callable[[N], Tensor], learning_rate: float, steps: int, seed: int, title: str
) -> N:
    """Train a network from a seed with AdamW; return it in evaluation mode, without gradients."""
    network = seeded(build, seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    fit(network, optimiser, one_cycle(optimiser, steps, warm_up=0.1), lambda _: loss_of(network), title)
    return network.eval().requires_grad_(False)
