"""The table that a run ends with, and what it says, for people."""

from typing import Any

from experiments.evaluation.baselines import CONTRAST

__all__ = ["report_rows", "report_sentences", "summary_table"]

_COLUMNS = ("e", "mae", "ssim_teacher", "ag", "ei", "sd", "en", "vif", "ssim", "iqa")
_TITLES = {"e": "E", "mae": "MAE", "ssim_teacher": "SSIM(teacher)"}
_ROWS = {
    "teacher": "teacher",
    "stage0": "stage 0",
    "guidance_only": "guidance only",
    "final": "with agent",
    "last": "last round",
    "unsharp": "+ unsharp",
    "contrast": f"contrast x{CONTRAST}",
    "laplacian": "Laplacian",
    "average": "average",
}
_CLOSER = {True: "closer", False: "NOT closer"}


def summary_table(summary: dict[str, Any]) -> str:
    """Write the content of ``summary.json``; rows that a run has not, or an older version had not, are left out."""
    rows = report_rows(summary)
    widths = [max(7, *map(len, cells)) for cells in zip(*rows, strict=True)]
    widths[0] = 14
    lines = [" ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([*lines, f"\n{report_sentences(summary)}"])


def report_rows(summary: dict[str, Any]) -> list[list[str]]:
    """Return the cells of the table, its header first."""
    report = summary["report"]
    return [
        ["", *(_TITLES.get(column, column.upper()) for column in _COLUMNS)],
        *(
            [title, *(f"{report[name][column]:.4f}" for column in _COLUMNS)]
            for name, title in _ROWS.items()
            if name in report
        ),
    ]


def report_sentences(summary: dict[str, Any]) -> str:
    """Say what the table says, line by line."""
    count = summary["report_pairs"]
    lines = [f"On {count} report pair{'s' if count != 1 else ''} {_verdict(summary)} (by MAE)."]
    if "best_rounds" in summary:
        lines.append(_delivered(summary["best_rounds"]))
    if summary.get("planning_rounds"):
        own = summary["learning_rounds"] or summary["judged_rounds"]
        lines.append(f"Beside {own} rounds it took {summary['planning_rounds']} on copies, to plan.")
    if summary["diverged_runs"]:
        lines.append(f"{summary['diverged_runs']} run(s) diverged; their students are the best finite ones.")
    return "\n".join(lines)


def _verdict(summary: dict[str, Any]) -> str:
    several = "the students are, on average," if len(summary.get("best_rounds", ())) > 1 else "the student is"
    whose = several if summary["protocol"] == "online" else "the frozen agent's students are, on average,"
    verdict = f"{whose} {_CLOSER[summary['closer_to_teacher']]} to the teacher than the stage-0 start"
    if "guidance_only" in summary["report"]:
        control = _CLOSER[summary["closer_than_guidance_only"]]
        verdict += f", and {control} than one trained for as many iterations with guidance only"
    return verdict


def _delivered(rounds: list[int]) -> str:
    """Say which student it is."""
    named = [f"round {number}" if number else "stage 0" for number in rounds]
    return f"Delivered is the best student of a run by the reward split, here that of {', '.join(named)}."
