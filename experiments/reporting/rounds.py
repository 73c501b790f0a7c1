"""What went on round by round: curves, and the agent's actions as colours."""

import math
from collections.abc import Sequence
from html import escape

from experiments.reporting.charts import Cell, Curve, colour_legend, line_chart, strip
from experiments.reporting.recorded import RecordedRun
from fusion_env.action import STRENGTHS

__all__ = ["curve_section", "schedule_section"]

_NONE = "<p>No round has been trained yet.</p>"
_COLUMNS = (
    ("reward", "Reward", "of each round"),
    ("loss_guidance", "Guidance loss", "imitation, Eq. 1"),
    ("loss_self_learning", "Self-learning loss", "insensitivity to degraded input, Eq. 2"),
    ("loss_total", "Total loss", "weighted, Eq. 3"),
    ("guidance_share", "Guidance share", "of the gradient norm"),
)


def curve_section(runs: Sequence[RecordedRun]) -> str:
    """Draw E, reward, losses and indicators of all runs, over the rounds of all their distillations in a row."""
    if not any(run.rows for run in runs):
        return _NONE
    marks = runs[0].starts() if len(runs) == 1 else []
    charts = [line_chart(*_e_curves(runs), marks)]
    charts += [
        line_chart(title, note, [Curve(run.name, run.column(name), at) for at, run in enumerate(runs)], marks)
        for name, title, note in _COLUMNS
    ]
    charts += [
        line_chart(name.upper(), "on the reward split", _against_teacher(runs, name), marks)
        for name in dict.fromkeys(name for run in runs for name in run.config.env.score_metrics)
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def _e_curves(runs: Sequence[RecordedRun]) -> tuple[str, str, list[Curve]]:
    """Return title, note and curves of E, or of the gap where the teacher's E is not known for every run."""
    gaps, teachers = [run.column("gap") for run in runs], [run.e_of_teacher() for run in runs]
    if not all(math.isfinite(value) for teacher in teachers for value in teacher):
        curves = [Curve(run.name, gap, at) for at, (run, gap) in enumerate(zip(runs, gaps, strict=True))]
        return "E(student) \N{MINUS SIGN} E(teacher)", "0 is the teacher", curves
    curves = []
    for at, (run, gap, teacher) in enumerate(zip(runs, gaps, teachers, strict=True)):
        student = [own + other for own, other in zip(gap, teacher, strict=True)]
        curves += _pair(run, runs, at, student, teacher)
    return "E", "of Eq. 6, on the reward split; higher is better", curves


def _against_teacher(runs: Sequence[RecordedRun], name: str) -> list[Curve]:
    return [
        curve
        for at, run in enumerate(runs)
        if name in run.config.env.score_metrics
        for curve in _pair(run, runs, at, run.column(f"student_{name}"), run.column(f"teacher_{name}"))
    ]


def _pair(
    run: RecordedRun, runs: Sequence[RecordedRun], at: int, student: Sequence[float], teacher: Sequence[float]
) -> list[Curve]:
    of = f"{run.name}, " if len(runs) > 1 else ""
    return [Curve(f"{of}student", student, at), Curve(f"{of}teacher", teacher, at, dashed=True)]


def schedule_section(runs: Sequence[RecordedRun]) -> str:
    """Draw what each run's agent chose: the weight of the guidance loss and the degradations' strengths."""
    if not any(run.rows for run in runs):
        return _NONE
    legend = colour_legend("off, or weight 0", "most, or weight 1")
    return f'{legend}<div class="schedules">{"".join(_schedule(run) for run in runs if run.rows)}</div>'


def _schedule(run: RecordedRun) -> str:
    weights = run.column("weight_guidance")
    strips = [strip("guidance weight", [Cell(weight, f"{weight:.3f}") for weight in weights])]
    for strength in STRENGTHS:
        shares = [(min(max(value, -1.0), 1.0) + 1) / 2 for value in run.column(f"action_{strength.name}")]
        values = run.column(strength.setting)
        setting = strength.setting.replace("_", " ")
        cells = [Cell(share, f"{setting} {value:.4g}") for share, value in zip(shares, values, strict=True)]
        strips.append(strip(strength.name, cells))
    return (
        f'<figure class="schedule"><figcaption><b>{escape(run.name)}</b></figcaption><div class="strips">'
        f'{"".join(strips)}<span></span><div class="x" aria-hidden="true"><span>1</span><span>round</span>'
        f"<span>{len(run.rows)}</span></div></div></figure>"
    )
