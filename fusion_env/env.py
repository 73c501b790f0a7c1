"""The environment: one step trains the student for one round under the action and pays Eq. 6."""

import copy
import dataclasses
import json
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import seeding
from numpy.typing import ArrayLike, NDArray
from torch import nn

from fusion_env import action as actions
from fusion_env import tasks
from fusion_env.config import DistillConfig
from fusion_env.data import PairSource
from fusion_env.degradation import DEGRADATIONS, Degradation
from fusion_env.errors import ConfigError, SnapshotError
from fusion_env.identity import absolute_paths
from fusion_env.info import run_info
from fusion_env.observation import observation_size, observation_table, sees_time
from fusion_env.render import draw_round, has_display, show
from fusion_env.run import LastRun, Run
from fusion_env.snapshot import SNAPSHOT_VERSION, check_same_task, check_version, read_generator, write_generator
from fusion_env.task import DistillationTask, build_task
from fusion_env.teachers import Teacher
from student.numerics import own_numerics

__all__ = ["FusionDistillEnv", "LastRun"]


def _with_tables(cls: type["FusionDistillEnv"]) -> type["FusionDistillEnv"]:
    """Put the tables of action and observation into the manual page."""
    if cls.__doc__:  # not with `python -OO`
        cls.__doc__ = cls.__doc__.format(
            action_size=actions.ACTION_SIZE,
            action_table=actions.action_table().replace("\n", "\n    "),
            order=", ".join(DEGRADATIONS),
            observation_size=observation_size("vector"),
            observation_table=observation_table("vector").replace("\n", "\n    "),
            rich_size=observation_size("rich"),
            rich_table=observation_table("rich").replace("\n", "\n    "),
        )
    return cls


@_with_tables
class FusionDistillEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Steer the distillation of an infrared-visible image-fusion network (arXiv 2509.02424).

    ## Description

    A small student network learns to fuse infrared and visible images like a large teacher. A *run* (an RL episode) is
    one whole distillation; a *round* (a step) is some mini-batches of training. In each round the agent chooses how
    much the student shall follow the teacher (guidance loss, Eq. 1), how much it shall make its output insensitive to
    degraded input (self-learning loss, Eq. 2), and which degradation that is.

    ## Action space

    `Box(-1, 1, ({action_size},), float32)`. Values outside are clipped; NaN or infinity is a `ValueError` before any
    training. `encode_action` builds a vector from values by name.

    | Num | Action | at -1 | at +1 |
    |---|---|---|---|
    {action_table}

    Infrared and visible luma get the same strengths and independent draws, in this order:
    {order}.

    ## Observation space

    `Box(-10, 10, ({observation_size},), float32)`: the student's indicators against those of the
    stage-0 student, and against the teacher's (Eq. 4). With ``normalisation="minmax"`` both halves are differences of
    values between the given bounds.

    | Num | Observation |
    |---|---|
    {observation_table}

    `observation="vector+time"` appends the used fraction of the rounds, `"scalar"` gives the mean of each half,
    `"performance"` and `"gap"` are one half each.

    `observation="rich"` has {rich_size} numbers. Before the first round nothing has changed, the losses are those of
    stage 0, the share is one half and the last action 0.

    | Num | Observation |
    |---|---|
    {rich_table}

    ## Rewards

    E(student) - E(teacher), where E is the mean of normalised VIF, IQA and SSIM over the whole images of the reward
    split, or crops of them (Eq. 6; the paper's E has no SSIM, `score_metrics` names what it has); no less than
    `divergence_reward`. With `reward="gap_delta"` the change of that difference. With `camera="rough"` student and
    teacher see these images through bad cameras, while metrics compare with the clean ones.

    ## Starting state

    The stage-0 student with its optimiser's moments, trained with the guidance loss only and cached on disk. Every run
    of a configuration starts from them, with random streams that derive from the seed of `reset`.

    ## Episode end

    - Truncation: `rounds` are used up (termination with `observation="vector+time"` and `"rich"`: the agent sees the
      end come).
    - Termination: training diverged (non-finite loss, weight or score). The reward is `divergence_reward` times the
      remaining rounds, this one included, the observation is the last finite one, and `info["diverged"]` is True.
    - Termination with `stop_at_parity=True`: E over the whole reward split was the teacher's or better three rounds
      running.

    What a run delivers is its best student: that of the round with the largest E(student) - E(teacher) on the reward
    split, the stage-0 student among them. At the last step `info["report"]` holds its scores and the teacher's on the
    report split, which the agent never sees. `last_run` keeps this student, the one of the last round, the reports of
    both, and the actions. Of a run that was cut off from outside, such as by a `max_episode_steps` below `rounds`,
    `info` has no report; `last_run` has one from the next `reset` or `close` on.

    ## Info

    Numbers, with the same keys after `reset` and after every step; what is not known yet is NaN. `round`, `losses`
    (means over the round, unscaled), `loss_weights`, `guidance_share` (of the gradient norm),
    `update_norm` (norm of the change of all weights over the round), `degradation`, `fused_std` (collapse to constant
    images shows here), `student` and `teacher` (raw means of the indicators), `gap`, `diverged`, and `report` (of
    `student` and `teacher`, known at the end). No clock readings: see the attribute `timings`.

    ## Arguments

    Args:
        preset: ``"tiny"``, ``"small"``, ``"bench"``, ``"demo"`` or ``"paper"``: the size.
        task: One of `fusion_env.tasks.names`, the situation; None for the preset as it is.
        render_mode: ``"rgb_array"``, ``"human"`` (needs a display) or None.
        config: A whole configuration in place of a preset.
        teacher: Name of a teacher, or a `fusion_env.teachers.Teacher` made in Python.
        source: Image pairs made in Python, a `fusion_env.data.PairSource`, in place of the setting `data`.
        **overrides: Fields of `DistillConfig`.

    Raises:
        ConfigError: A setting is out of range.
        FusionEnvError: Data or weights are missing or cannot be used.

    ## Version history

    - v0: first version.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (gymnasium's declaration)
        "render_modes": ["rgb_array", "human"] if has_display() else ["rgb_array"],
        "render_fps": 4,
    }

    @own_numerics()
    def __init__(
        self,
        preset: str = "demo",
        *,
        task: str | None = None,
        render_mode: str | None = None,
        config: DistillConfig | None = None,
        teacher: Teacher | str | None = None,
        source: PairSource | None = None,
        **overrides: Any,
    ) -> None:
        if isinstance(teacher, str):
            overrides["teacher"], teacher = teacher, None
        if config is not None and not isinstance(config, DistillConfig):
            raise TypeError(f"config must be a DistillConfig. Got {type(config).__name__}; settings are keywords")
        if config is not None and task is not None:
            raise ConfigError(f"a config is whole: leave out task={task!r}, or make it by fusion_env.tasks.config")
        config = tasks.config(task, preset, **overrides) if config is None else config.replace(**overrides)
        self._setup(build_task(config, source=source, teacher=teacher), render_mode)

    @classmethod
    @own_numerics()
    def from_task(cls, task: DistillationTask, render_mode: str | None = None) -> "FusionDistillEnv":
        """Make an environment of a task that exists already; data and networks are shared."""
        env = cls.__new__(cls)
        env._setup(task, render_mode)
        return env

    def _setup(self, task: DistillationTask, render_mode: str | None) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            reason = "; 'human' needs a display" if render_mode == "human" else ""
            modes = ", ".join(self.metadata["render_modes"])
            raise ConfigError(f"render_mode must be None or one of {modes}. Got {render_mode!r}{reason}")
        self.render_mode = render_mode
        self._spec: EnvSpec | None = None
        self.task = task
        self.config = task.config
        self.action_space = spaces.Box(-1.0, 1.0, (actions.ACTION_SIZE,), np.float32)
        self.observation_space = spaces.Box(-10.0, 10.0, (observation_size(self.config.observation),), np.float32)
        self._run: Run | None = None
        self._last_run: LastRun | None = None
        self._cut_off: Run | None = None

    @own_numerics()
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start a run from the stage-0 student.

        Args:
            seed: Seed of the run's random streams; None continues the environment's own.
            options: Not used.

        Returns:
            The first observation and info.
        """
        super().reset(seed=seed)
        self._leave()
        self._run = Run(self.task, *self._draw_seeds())
        self._run.score()
        return self._run.observation.copy(), run_info(self._run)

    def _leave(self) -> None:
        if self._run is not None and self._run.rounds and not self._run.over:
            self._cut_off = self._run

    def close(self) -> None:
        """Leave the run that goes on; where no run has ended before, `last_run` then has it."""
        if self._last_run is None and self._cut_off is None:
            self._leave()
        super().close()

    def _draw_seeds(self) -> list[int]:
        return self.np_random.integers(2**63, size=3).tolist()

    @own_numerics()
    def step(self, action: ArrayLike) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Train the student for one round under the action, and score it.

        Args:
            action: The numbers that the table of the class explains.

        Returns:
            Observation, reward, terminated, truncated, info.

        Raises:
            ValueError: The action has the wrong shape or is not finite; nothing was trained.
            gymnasium.error.ResetNeeded: No run is going on.
        """
        weights, degradation = self.decode_action(action)
        run = self._going_on()
        run.train(action, weights, degradation)
        run.score()
        reward, terminated, truncated = run.judge()
        if run.over:
            self._last_run, self._cut_off = run.result(), None
        return (
            run.observation.copy(),
            reward,
            terminated,
            truncated,
            run_info(run, weights, self._last_run if run.over else None),
        )

    def _going_on(self) -> Run:
        if self._run is None or self._run.over:
            raise gymnasium.error.ResetNeeded("no run is going on: call reset() before step()")
        return self._run

    @own_numerics()
    def abandon(self) -> LastRun:
        """End the run that goes on as if the student had diverged: it stays as it is, and the missing rounds are lost.

        Returns:
            What it leaves behind, which is `last_run` from now on.

        Raises:
            gymnasium.error.ResetNeeded: No run is going on.
        """
        run = self._going_on()
        run.abandon()
        self._last_run, self._cut_off = run.result(), None
        return self._last_run

    def decode_action(self, action: ArrayLike) -> tuple[actions.LossWeights, Degradation]:
        """Tell what an action means here; see `fusion_env.action.decode_action`."""
        config = self.config
        return actions.decode_action(
            action, logit_scale=config.logit_scale, guidance=config.guidance, self_learning=config.self_learning
        )

    def encode_action(self, **values: Any) -> NDArray[np.float32]:
        """Build an action from values by name: `guidance`, and the fields of `fusion_env.degradation.Degradation`.

        See `fusion_env.action.encode_action`; `logit_scale` is the environment's.
        """
        return actions.encode_action(**values, logit_scale=self.config.logit_scale)

    @property
    def run(self) -> Run:
        """The run that goes on, or the one that ended last.

        Raises:
            gymnasium.error.ResetNeeded: There is none yet.
        """
        if self._run is None:
            raise gymnasium.error.ResetNeeded("there is no run before reset()")
        return self._run

    @property
    def last_run(self) -> LastRun | None:
        """What the last run left behind that ended or was cut off by `reset` or `close`; None before that."""
        if self._cut_off is not None:  # scored only where somebody asks
            self._last_run, self._cut_off = self._cut_off.result(), None
        return self._last_run

    @property
    def spec(self) -> EnvSpec | None:
        """How `gymnasium.make` made the environment; `max_episode_steps` states `rounds`, which end a run anyway."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        # Where the agent sees the end of the budget come, it is a termination: no wrapper may truncate there.
        if spec is not None and spec.max_episode_steps is None and not sees_time(self.config.observation):
            spec = dataclasses.replace(spec, max_episode_steps=self.config.rounds)
        self._spec = spec

    @property
    def timings(self) -> dict[str, float]:
        """Seconds that each part of training and scoring took since `reset`."""
        return {} if self._run is None else dict(self._run.engine.timings)

    @property
    def student(self) -> nn.Module:
        """The student of the run that goes on, in evaluation mode."""
        return self.run.engine.student

    @own_numerics()
    def render(self) -> NDArray[np.uint8] | None:
        """Draw the last round: infrared, visible, degraded, teacher and student of the first scored image.

        Returns:
            uint8 [H, W, 3] with ``render_mode="rgb_array"``, else None.
        """
        if self.render_mode is None or self._run is None:
            gymnasium.logger.warn("render() needs a render_mode and a call of reset()")
            return None
        run = self._run
        lines = (
            f"round {run.rounds} of {self.config.rounds}   gap to the teacher {run.gap:+.3f}",
            "student / teacher",
            *(f"{name.upper()} {value:.3f} / {run.teacher[name]:.3f}" for name, value in run.student.items()),
        )
        picture = draw_round(
            self.task.scored[0],
            run.engine.student,
            run.degradation,
            lines,
            bars=self._bars(run),
            done=run.rounds / self.config.rounds,
        )
        if self.render_mode == "rgb_array":
            return picture
        show(picture)
        return None

    def _bars(self, run: Run) -> dict[str, float]:
        """Return the last round's guidance weight and strengths, as shares of their ranges; none before the first."""
        if not run.actions:
            return {}
        weights, _ = self.decode_action(run.actions[-1])
        strengths = run.actions[-1][len(actions.LOGITS) :]
        shares = {s.name: (value + 1) / 2 for s, value in zip(actions.STRENGTHS, strengths, strict=True)}
        return {"guidance": weights.guidance, **shares}

    @own_numerics()
    def state_dict(self) -> dict[str, Any]:
        """Return the whole state of the run: student, optimiser, random streams, counters.

        It can be written with ``torch.save``, read with ``weights_only=True``, and loaded in another process. The
        continuation is bit-exact on the CPU with equal `threads`.

        Raises:
            gymnasium.error.ResetNeeded: There is no run yet.
        """
        return {
            "version": SNAPSHOT_VERSION,
            "config": json.dumps(absolute_paths(self.config).to_dict(), sort_keys=True),
            "fingerprints": json.dumps(self.task.fingerprints),
            "env_rng": write_generator(self.np_random),
            "env_seed": self._np_random_seed,
            "run": self.run.state_dict(),
        }

    @own_numerics()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`'s output.

        Raises:
            SnapshotError: The snapshot is of another configuration, of other data or networks, or has another format;
                the environment is unchanged.
        """
        missing = {"version", "config", "env_rng", "env_seed", "run"} - set(state)
        if missing:
            raise SnapshotError(f"not a snapshot of this environment: {', '.join(sorted(missing))} missing")
        check_version(state)
        try:
            recorded = DistillConfig.from_dict(json.loads(state["config"]))
            fingerprints = json.loads(state["fingerprints"]) if "fingerprints" in state else None
            check_same_task((recorded, fingerprints), (self.config, self.task.fingerprints))
            run = Run(self.task, 0, 0, 0)
            run.load_state_dict(state["run"])
        except (ValueError, TypeError, KeyError) as error:
            raise SnapshotError(f"the snapshot is damaged: {error}") from error
        env_rng = read_generator(state["env_rng"])
        self._run, self._np_random, self._np_random_seed = run, env_rng, state["env_seed"]

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled or deep-copied: the run by its state; the task is shared, or built again elsewhere."""
        run = None if self._run is None else self._run.state_dict()
        return {**vars(self), "_run": run, "_last_run": self.last_run, "_cut_off": None}

    @own_numerics()
    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take on the output of `__getstate__`."""
        vars(self).update(state)
        if state["_run"] is not None:
            self._run = Run(self.task, 0, 0, 0)
            self._run.load_state_dict(state["_run"])

    @own_numerics()
    def fork(self, seed: int | None = None) -> "FusionDistillEnv":
        """Return an independent environment in the same state, ready to step.

        Weights and random streams are copied; data, teacher and networks are shared.

        Args:
            seed: Give the copy random streams of its own (order of the crops, degradations, scored images, later
                runs); None copies those of this environment, so that equal actions have equal results in both.
        """
        other = type(self).from_task(self.task, self.render_mode)
        other.load_state_dict(self.state_dict())
        other._last_run = copy.copy(self.last_run)
        if seed is not None:
            other.reseed(seed)
        return other

    def reseed(self, seed: int) -> None:
        """Give the run that goes on, and later ones, other random streams; the student stays as it is."""
        self._np_random, self._np_random_seed = seeding.np_random(seed)
        self.run.reseed(*self._draw_seeds())
