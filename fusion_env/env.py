"""The environment: one step trains the student for one round under the action and pays Eq. 6."""

import copy
import json
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import seeding
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fusion_env import action as actions
from fusion_env.config import DistillConfig, preset
from fusion_env.data import PairSource
from fusion_env.degradation import Degradation
from fusion_env.distillation import Distillation, RoundResult
from fusion_env.errors import ConfigError, SnapshotError
from fusion_env.render import draw_round, has_display, show
from fusion_env.report import Report
from fusion_env.scoring import Scores, observation_size
from fusion_env.snapshot import check_same_task, read_generator, write_generator
from fusion_env.task import DistillationTask, build_task, given_in_python
from fusion_env.teachers import Teacher

__all__ = ["FusionDistillEnv", "LastRun"]

PARITY_ROUNDS = 3


@dataclass(frozen=True)
class LastRun:
    """What a finished run left behind; it stays until the next run ends.

    Attributes:
        student: State dict of the student, on the CPU: the final one, or the last finite one of a diverged run.
        report: Its report-split scores.
        teacher_report: The teacher's.
        actions: float32 [rounds, 7].
        rewards: One per round.
        diverged: Whether the run ended by divergence.
    """

    student: dict[str, Tensor]
    report: Report
    teacher_report: Report
    actions: NDArray[np.float32]
    rewards: tuple[float, ...]
    diverged: bool


@dataclass
class _Progress:
    """Counters and last values of a run: what, beside the engine and the random streams, the next step depends on."""

    rounds: int
    gap: float
    parity: int
    over: bool
    observation: NDArray[np.float32]
    student: Scores
    teacher: Scores
    degradation: Degradation
    actions: list[list[float]]
    rewards: list[float]


class FusionDistillEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Steer the distillation of an infrared-visible image-fusion network (arXiv 2509.02424).

    ## Description

    A small student network learns to fuse infrared and visible images like a large teacher. A *run* (an RL episode) is
    one whole distillation; a *round* (a step) is some mini-batches of training. In each round the agent chooses how
    much the student shall follow the teacher (guidance loss, Eq. 1), how much it shall make its output insensitive to
    degraded input (self-learning loss, Eq. 2), and which degradation that is.

    ## Action space

    `Box(-1, 1, (7,), float32)`. Values outside are clipped; NaN or infinity is a `ValueError` before any training.

    | Num | Action | at -1 | at +1 |
    |---|---|---|---|
    | 0 | logit of the guidance loss, times `logit_scale`, into a softmax with 1 | least | most |
    | 1 | logit of the self-learning loss | least | most |
    | 2 | side of the Gaussian blur kernel, odd, in pixels | 1 (off) | 13 |
    | 3 | JPEG quality | 100 (off) | 20 |
    | 4 | brightness range r; the factor of a sample is U(1-r, 1+r) | 0 (off) | 0.5 |
    | 5 | contrast range r, likewise | 0 (off) | 0.5 |
    | 6 | standard deviation of the noise, images in 0..1 | 0 (off) | 0.1 |

    Infrared and visible luma get the same strengths and independent draws, in the order blur, brightness, contrast,
    noise, JPEG. `encode_action` builds a vector from values by name.

    ## Observation space

    `Box(-10, 10, (10,), float32)`: `obs_scale` times the student's indicators, normalised by the teacher's mean over
    the reward split, minus 1; then `obs_scale` times student minus teacher (Eq. 4).

    | Num | Observation |
    |---|---|
    | 0, 5 | AG, average gradient |
    | 1, 6 | EI, edge intensity |
    | 2, 7 | VIF, visual information fidelity, sum over both sources |
    | 3, 8 | SD, standard deviation |
    | 4, 9 | IQA, quality score |

    `observation="vector+time"` appends the used fraction of the rounds, `"scalar"` gives the two means, `"performance"`
    and `"gap"` one half each.

    ## Rewards

    E(student) - E(teacher), where E is the mean of normalised VIF and IQA (`score_metrics`) over the scored crops of
    the reward split (Eq. 6); no less than `divergence_reward`. With `reward="gap_delta"` the change of that difference.

    ## Starting state

    The stage-0 student, trained with the guidance loss only and cached on disk. Every run of a configuration starts
    from it, with a fresh optimiser and random streams that derive from the seed of `reset`.

    ## Episode end

    - Truncation: `rounds` are used up (termination with `observation="vector+time"`: the agent sees the end come).
    - Termination: training diverged (non-finite loss, weight or score). The reward is `divergence_reward` times the
      remaining rounds, this one included, the observation is the last finite one, and `info["diverged"]` is True.
    - Termination with `stop_at_parity=True`: E over the whole reward split was the teacher's or better three rounds
      running.

    At a run's last step `info["report"]` holds the scores of the student and the teacher on the report split, which the
    agent never sees, and `last_run` keeps student, report and actions.

    ## Info

    `round`, `losses` (means over the round, unscaled), `loss_weights`, `degradation`, `guidance_share` (of the gradient
    norm), `fused_std` (collapse to constant images shows here), `student` and `teacher` (raw means of the indicators),
    `gap`, `diverged`, and at the end `report`. No clock readings: see the attribute `timings`.

    ## Arguments

    Args:
        preset: ``"tiny"``, ``"bench"``, ``"demo"`` or ``"paper"``.
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

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": ["rgb_array", "human"] if has_display() else ["rgb_array"],
        "render_fps": 4,
    }

    def __init__(
        self,
        preset: str = "demo",
        *,
        render_mode: str | None = None,
        config: DistillConfig | None = None,
        teacher: Teacher | str | None = None,
        source: PairSource | None = None,
        **overrides: Any,
    ) -> None:
        if isinstance(teacher, str):
            overrides["teacher"], teacher = teacher, None
        config = _configuration(preset, config, overrides | given_in_python(source, teacher))
        self._setup(build_task(config, source=source, teacher=teacher), render_mode)

    @classmethod
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
        self.task = task
        self.config = task.config
        self.action_space = spaces.Box(-1.0, 1.0, (actions.ACTION_SIZE,), np.float32)
        self.observation_space = spaces.Box(-10.0, 10.0, (observation_size(self.config.observation),), np.float32)
        self.last_run: LastRun | None = None
        self._engine: Distillation | None = None
        self._score_rng = np.random.default_rng(0)
        self._run: _Progress | None = None

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
        order_seed, noise_seed, score_seed = self.np_random.integers(2**63, size=3).tolist()
        self._engine = self.task.new_run(order_seed, noise_seed)
        self._engine.student.eval()
        self._score_rng = np.random.default_rng(score_seed)
        student, teacher, fused_std = self._score()
        self._run = _Progress(
            rounds=0,
            gap=self._gap(student, teacher),
            parity=0,
            over=False,
            observation=self.task.scorer.observation(student, teacher, 0.0),
            student=student,
            teacher=teacher,
            degradation=Degradation(),
            actions=[],
            rewards=[],
        )
        return self._run.observation.copy(), self._info(fused_std=fused_std)

    def step(self, action: ArrayLike) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Train the student for one round under the action, and score it.

        Args:
            action: Seven numbers; see the class.

        Returns:
            Observation, reward, terminated, truncated, info.

        Raises:
            ValueError: The action has the wrong shape or is not finite; nothing was trained.
            gymnasium.error.ResetNeeded: No run is going on.
        """
        weights, degradation = self._decode(action)
        run, engine = self._running()
        before = {name: tensor.clone() for name, tensor in engine.student.state_dict().items()}
        result = engine.run_round(weights, degradation)
        run.rounds += 1
        run.degradation = degradation
        run.actions.append(np.clip(np.asarray(action, np.float32), -1, 1).tolist())
        info = {
            "losses": _losses(result),
            "loss_weights": vars(weights).copy(),
            "guidance_share": result.guidance_share,
        }
        student, teacher, fused_std = self._score()
        if result.diverged or not np.isfinite([*student.values()]).all():
            engine.student.load_state_dict(before)
            return self._finish_diverged(info)
        reward = self._reward(student, teacher)
        terminated, truncated = self._ends(student)
        run.observation = self.task.scorer.observation(student, teacher, run.rounds / self.config.rounds)
        run.student, run.teacher = student, teacher
        run.rewards.append(reward)
        info = self._info(**info, fused_std=fused_std)
        if terminated or truncated:
            info["report"] = self._finish(diverged=False)
        return run.observation.copy(), reward, terminated, truncated, info

    def _decode(self, action: ArrayLike) -> tuple[actions.LossWeights, Degradation]:
        config = self.config
        return actions.decode_action(
            action, logit_scale=config.logit_scale, guidance=config.guidance, self_learning=config.self_learning
        )

    def _running(self) -> tuple[_Progress, Distillation]:
        if self._run is None or self._engine is None or self._run.over:
            raise gymnasium.error.ResetNeeded("no run is going on: call reset() before step()")
        return self._run, self._engine

    def _score(self) -> tuple[Scores, Scores, float]:
        with self._engine.timed("scoring"):
            return self.task.scorer.score(self._engine.student, self.task.scorer.draw(self._score_rng))

    def _gap(self, student: Scores, teacher: Scores) -> float:
        return self.task.scorer.score_e(student) - self.task.scorer.score_e(teacher)

    def _reward(self, student: Scores, teacher: Scores) -> float:
        """Eq. 6, or its change; bounded below so that a finite round is never worse than a lost one."""
        gap = self._gap(student, teacher)
        reward = gap - self._run.gap if self.config.reward == "gap_delta" else gap
        self._run.gap = gap
        return float(max(reward, self.config.divergence_reward))

    def _ends(self, student: Scores) -> tuple[bool, bool]:
        run, config = self._run, self.config
        used_up = run.rounds >= config.rounds
        parity = False
        if config.stop_at_parity:
            whole = student if config.score_images is None else self.task.scorer.score(self._engine.student)[0]
            scorer = self.task.scorer
            reached = scorer.score_e(whole) >= scorer.score_e(scorer.teacher_means)
            run.parity = run.parity + 1 if reached else 0
            parity = run.parity >= PARITY_ROUNDS
        if config.observation == "vector+time":
            return parity or used_up, False
        return parity, used_up and not parity

    def _finish_diverged(self, info: dict[str, Any]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        run = self._run
        reward = self.config.divergence_reward * (self.config.rounds - run.rounds + 1)
        run.rewards.append(reward)
        info = self._info(**info, fused_std=float("nan"), diverged=True)
        info["report"] = self._finish(diverged=True)
        return run.observation.copy(), reward, True, False, info

    def _finish(self, *, diverged: bool) -> dict[str, Report]:
        run = self._run
        run.over = True
        report, teacher_report = self.task.report.score(self._engine.student), self.task.report.teacher()
        self.last_run = LastRun(
            student={name: tensor.detach().cpu().clone() for name, tensor in self._engine.student.state_dict().items()},
            report=report,
            teacher_report=teacher_report,
            actions=np.asarray(run.actions, np.float32),
            rewards=tuple(run.rewards),
            diverged=diverged,
        )
        return {"student": dict(report), "teacher": dict(teacher_report)}

    def _info(self, *, fused_std: float, diverged: bool = False, **more: Any) -> dict[str, Any]:
        run = self._run
        return {
            "round": run.rounds,
            **more,
            "degradation": vars(run.degradation).copy(),
            "fused_std": fused_std,
            "student": dict(run.student),
            "teacher": dict(run.teacher),
            "gap": run.gap,
            "diverged": diverged,
        }

    def encode_action(self, **values: Any) -> NDArray[np.float32]:
        """Build an action from values by name: guidance, blur_kernel, jpeg_quality, brightness, contrast, noise_std.

        See `fusion_env.action.encode_action`; `logit_scale` is the environment's.
        """
        return actions.encode_action(**values, logit_scale=self.config.logit_scale)

    @property
    def timings(self) -> dict[str, float]:
        """Seconds that each part of training and scoring took since `reset`."""
        return {} if self._engine is None else dict(self._engine.timings)

    @property
    def run_rewards(self) -> tuple[float, ...]:
        """Rewards of the run that goes on."""
        return () if self._run is None else tuple(self._run.rewards)

    @property
    def student(self) -> torch.nn.Module:
        """The student of the run that goes on, in evaluation mode."""
        if self._engine is None:
            raise gymnasium.error.ResetNeeded("there is no student before reset()")
        return self._engine.student

    def render(self) -> NDArray[np.uint8] | None:
        """Draw the last round: infrared, visible, degraded, teacher and student of the first scored crop.

        Returns:
            uint8 [H, W, 3] with ``render_mode="rgb_array"``, else None.
        """
        if self.render_mode is None or self._run is None:
            gymnasium.logger.warn("render() needs a render_mode and a call of reset()")
            return None
        run = self._run
        lines = (
            f"round {run.rounds}/{self.config.rounds}",
            f"gap {run.gap:+.3f}",
            *(f"{name.upper()} {value:.3f} / {run.teacher[name]:.3f}" for name, value in run.student.items()),
        )
        picture = draw_round(self.task.scored, self._engine.student, run.degradation, lines)
        if self.render_mode == "rgb_array":
            return picture
        show(picture)
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state of the run: student, optimiser, random streams, counters.

        It can be written with ``torch.save``, read with ``weights_only=True``, and loaded in another process. The
        continuation is bit-exact on the CPU with equal `threads`.

        Raises:
            gymnasium.error.ResetNeeded: There is no run yet.
        """
        if self._run is None or self._engine is None:
            raise gymnasium.error.ResetNeeded("there is no state before reset()")
        progress = dict(vars(self._run))
        progress["observation"] = self._run.observation.tolist()
        progress["degradation"] = vars(self._run.degradation).copy()
        return {
            "config": json.dumps(self.config.to_dict(), sort_keys=True),
            "engine": self._engine.state_dict(),
            "env_rng": write_generator(self.np_random),
            "env_seed": self._np_random_seed,
            "score_rng": write_generator(self._score_rng),
            "progress": json.dumps(progress),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`'s output.

        Raises:
            SnapshotError: The snapshot is of another configuration or format; the environment is unchanged.
        """
        missing = {"config", "engine", "env_rng", "score_rng", "progress"} - set(state)
        if missing:
            raise SnapshotError(f"not a snapshot of this environment: {', '.join(sorted(missing))} missing")
        try:
            config, progress = (json.loads(state[name]) for name in ("config", "progress"))
            check_same_task(self.config, DistillConfig.from_dict(config))
        except (ValueError, TypeError) as error:
            raise SnapshotError(f"the snapshot is damaged: {error}") from error
        engine = self.task.new_run(0, 0)
        engine.student.eval()
        engine.load_state_dict(state["engine"])
        progress["observation"] = np.asarray(progress["observation"], np.float32)
        progress["degradation"] = Degradation(**progress["degradation"])
        self._engine, self._run = engine, _Progress(**progress)
        self._np_random, self._np_random_seed = read_generator(state["env_rng"]), state.get("env_seed")
        self._score_rng = read_generator(state["score_rng"])

    def fork(self, seed: int | None = None) -> "FusionDistillEnv":
        """Return an independent environment in the same state, ready to step.

        Weights and random streams are copied; data, teacher and networks are shared.

        Args:
            seed: Give the copy random streams of its own (order of the crops, degradations, scored images, later
                runs); None copies those of this environment, so that equal actions have equal results in both.
        """
        other = type(self).from_task(self.task, self.render_mode)
        other.load_state_dict(self.state_dict())
        other.last_run = copy.copy(self.last_run)
        if seed is not None:
            other._reseed(seed)
        return other

    def _reseed(self, seed: int) -> None:
        self._np_random, self._np_random_seed = seeding.np_random(seed)
        order_seed, noise_seed, score_seed = self.np_random.integers(2**63, size=3).tolist()
        self._engine.reseed(order_seed, noise_seed)
        self._score_rng = np.random.default_rng(score_seed)


def _configuration(name: str, config: DistillConfig | None, overrides: dict[str, Any]) -> DistillConfig:
    return preset(name, **overrides) if config is None else config.replace(**overrides)


def _losses(result: RoundResult) -> dict[str, float]:
    return {"guidance": result.guidance, "self_learning": result.self_learning, "total": result.total}
