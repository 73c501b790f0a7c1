"""A run: one distillation in progress, from the stage-0 student to the end of the budget. Free of gymnasium."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fusion_env.action import ACTION_SIZE, LossWeights
from fusion_env.captured import captures_scores
from fusion_env.captured_scoring import CapturedScoring
from fusion_env.degradation import Degradation
from fusion_env.distillation import RoundResult
from fusion_env.observation import sees_time
from fusion_env.report import Report
from fusion_env.scoring import Scores, ends, lost_reward, reward
from fusion_env.snapshot import read_generator, to_cpu, write_generator
from fusion_env.task import DistillationTask
from student.weights import build_student

__all__ = ["LastRun", "Run"]

_SAVED = (
    *("rounds", "parity", "over", "diverged", "gap", "fused_std", "student", "teacher", "actions", "rewards"),
    *("best_round", "best_gap"),
)


@dataclass(frozen=True)
class LastRun:
    """What a finished run left behind; it stays until the next run ends.

    Attributes:
        student: State dict of the student that the run delivers, on the CPU: the best by the reward split (of equally
            good ones the later), the stage-0 student among the candidates.
        best_round: The round after which it was taken; 0 is the stage-0 student.
        report: Its report-split scores.
        last_student: State dict of the student at the end, or of the last finite one of a diverged run.
        last_report: Its report-split scores.
        teacher_report: The teacher's.
        actions: float32 [rounds, numbers of an action].
        rewards: One per round; the last one of a diverged or abandoned run stands for all rounds that it lost.
        diverged: Whether the run ended by divergence, or was abandoned.
    """

    student: dict[str, Tensor]
    best_round: int
    report: Report
    last_student: dict[str, Tensor]
    last_report: Report
    teacher_report: Report
    actions: NDArray[np.float32]
    rewards: tuple[float, ...]
    diverged: bool


class Run:
    """One distillation in progress. A round is `train`, `score`, `judge`; `score` is also called once before the first.

    Args:
        task: What is distilled.
        order_seed: Seed of the order of the training crops.
        noise_seed: Seed of the degradations' random parts.
        score_seed: Seed of the choice of scored crops.

    Attributes:
        task: What is distilled.
        engine: Student, optimiser, and the random streams of training.
        rounds: Rounds trained so far.
        trained: What the last round of training came to; None before the first, and after loading a snapshot.
        actions: The clipped action of each round.
        rewards: What each round paid.
        degradation: The last round's.
        student: The student's last finite scores.
        teacher: The teacher's on the same crops.
        gap: E(student) - E(teacher) of these.
        best: State dict of the student with the largest gap of the run so far, on the CPU; of equal ones the last.
        best_round: The round that it comes from; 0 is the stage-0 student.
        best_gap: Its gap.
        fused_std: Contrast of the student's images within an image; NaN once the run has diverged.
        observation: What the agent sees of the last finite scores.
        parity: Rounds running in which E over the whole reward split was the teacher's or better.
        diverged: The last round had a loss, weight or score that is not finite, and was taken back.
        over: The run has ended.
    """

    student: Scores
    teacher: Scores
    observation: NDArray[np.float32]
    best: dict[str, Tensor]

    def __init__(self, task: DistillationTask, order_seed: int, noise_seed: int, score_seed: int) -> None:
        self.task = task
        self.engine = task.new_engine(order_seed, noise_seed)
        self._rate: CapturedScoring | None = None
        if self.engine.new_graph is not None and captures_scores(task.config.capture, task.device):
            self._rate = CapturedScoring(task.scorer, self.engine.student, self.engine.new_graph)
        self._score_rng = np.random.default_rng(score_seed)
        self.rounds = 0
        self.trained: RoundResult | None = None
        self.actions: list[list[float]] = []
        self.rewards: list[float] = []
        self.degradation = Degradation()
        self.gap = self._gap_before = self.fused_std = self.best_gap = float("nan")
        self.best_round = 0
        self.parity = 0
        self.diverged = self.over = False

    def train(self, action: ArrayLike, weights: LossWeights, degradation: Degradation) -> None:
        """Train the student for one round.

        Args:
            action: The action, for the record.
            weights: The loss weights that it means.
            degradation: The degradation that it means.
        """
        self._gap_before = self.gap
        result = self.engine.run_round(weights, degradation)
        self.rounds += 1
        self.degradation = degradation
        self.actions.append(np.clip(np.asarray(action, np.float32), -1, 1).tolist())
        self.diverged = result.diverged
        self.trained = result

    def score(self) -> None:
        """Score the student, on fresh crops where the task says so; scores that are not finite mean divergence."""
        self.fused_std = float("nan")
        if self.diverged:
            return
        scorer = self.task.scorer
        with self.engine.timed("scoring"):
            chosen = scorer.draw(self._score_rng)
            student, teacher, spread = scorer.score(self.engine.student, chosen, rate=self._rate)
        if self.rounds and not np.isfinite([*student.values()]).all():  # finite weights can be that large
            self.engine.roll_back()
            self.diverged = True
            return
        self.observation = self._observe(student, teacher)
        self.student, self.teacher, self.fused_std = student, teacher, spread
        self.gap = scorer.gap(student, teacher)
        if not self.gap < self.best_gap:  # so it is before the first round, too
            self.best, self.best_round, self.best_gap = to_cpu(self.engine.student.state_dict()), self.rounds, self.gap

    def _observe(self, student: Scores, teacher: Scores) -> NDArray[np.float32]:
        observe, trained = self.task.observer.observe, self.trained
        if trained is None:
            return observe(student, teacher)
        return observe(
            student,
            teacher,
            before=self.student,
            losses=(trained.guidance, trained.self_learning),
            guidance_share=trained.guidance_share,
            action=self.actions[-1],
            used_budget=self.rounds / self.task.config.rounds,
        )

    def judge(self) -> tuple[float, bool, bool]:
        """Pay the round and tell whether the run ends with it.

        Returns:
            Reward, terminated, truncated.
        """
        config = self.task.config
        if self.diverged:
            lost = config.rounds - self.rounds + 1
            paid, terminated, truncated = lost_reward(lost, each=config.divergence_reward), True, False
        else:
            paid = reward(self.gap, before=self._gap_before, kind=config.reward, lowest=config.divergence_reward)
            if config.stop_at_parity:
                self.parity = self.parity + 1 if self._at_parity() else 0
            timed = sees_time(config.observation)
            terminated, truncated = ends(self.rounds, budget=config.rounds, parity=self.parity, sees_time=timed)
        self.rewards.append(paid)
        self.over = terminated or truncated
        return paid, terminated, truncated

    def _at_parity(self) -> bool:
        scorer = self.task.scorer
        subset = self.task.config.score_images is not None
        return scorer.at_parity(scorer.score(self.engine.student, rate=self._rate)[0] if subset else self.student)

    def abandon(self) -> None:
        """End the run as if the student had diverged: it stays as it is, and the missing rounds are lost."""
        config = self.task.config
        self.rewards.append(lost_reward(config.rounds - self.rounds, each=config.divergence_reward))
        self.diverged = self.over = True

    def result(self) -> LastRun:
        """Score the report split, which nothing looks at before the run's end, and return what is left behind."""
        last = to_cpu(self.engine.student.state_dict())
        report = self._report(self.best)
        is_best = all(torch.equal(tensor, self.best[name]) for name, tensor in last.items())
        last_report = report if is_best else self._report(last)
        return LastRun(
            student=self.best,
            best_round=self.best_round,
            report=report,
            last_student=last,
            last_report=last_report,
            teacher_report=self.task.report.teacher(),
            actions=np.asarray(self.actions, np.float32).reshape(-1, ACTION_SIZE),
            rewards=tuple(self.rewards),
            diverged=self.diverged,
        )

    def _report(self, state: dict[str, Tensor]) -> Report:
        return self.task.report.score(build_student(state, "student of a run").to(self.task.device))

    def reseed(self, order_seed: int, noise_seed: int, score_seed: int) -> None:
        """Start new random streams; all else stays as it is."""
        self.engine.reseed(order_seed, noise_seed)
        self._score_rng = np.random.default_rng(score_seed)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next rounds depend on, as copies; see `FusionDistillEnv.state_dict`."""
        values = {name: getattr(self, name) for name in _SAVED}
        values |= {"observation": self.observation.tolist(), "degradation": vars(self.degradation)}
        return {
            "engine": self.engine.state_dict(),
            "best": self.best,
            "score_rng": write_generator(self._score_rng),
            "values": json.dumps(values),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`'s output.

        Raises:
            SnapshotError: The snapshot has another format version or another bank.
        """
        values = json.loads(state["values"])
        for name in _SAVED:
            setattr(self, name, values[name])
        self.observation = np.asarray(values["observation"], np.float32)
        self.degradation = Degradation(**values["degradation"])
        self.engine.load_state_dict(state["engine"])
        self.best = to_cpu(state["best"])
        self._score_rng = read_generator(state["score_rng"])
