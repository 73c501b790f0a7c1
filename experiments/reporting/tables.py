"""Scores, settings and versions as tables."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from experiments.reporting.recorded import RecordedRun
from experiments.running.summary_table import report_rows, report_sentences
from fusion_env import tasks
from fusion_env.config import DistillConfig

__all__ = ["score_section", "setting_section", "version_section"]

_ABSENT = "\N{EM DASH}"


def score_section(runs: Sequence[RecordedRun]) -> str:
    """Show the scores of each finished run on the report split, beside what they are compared with."""
    parts = []
    for run in runs:
        if run.summary is None:
            parts.append(f"<p><b>{escape(run.name)}</b> is unfinished and has no scores yet.</p>")
            continue
        sentences = escape(report_sentences(run.summary)).replace("\n", " ")
        header, *rows = report_rows(run.summary)
        parts.append(
            f"<h3>{escape(run.name)}</h3><p>{sentences}</p>{_table('Means over the report split', header, rows)}"
        )
    return "".join(parts)


def setting_section(runs: Sequence[RecordedRun]) -> str:
    """Show the settings that differ, between the runs or from the preset, and then all."""
    settings = {run.name: _settings(run) for run in runs}
    if len(runs) == 1:
        config = runs[0].config
        start = f"preset {config.preset}" + (f", task {config.task}" if config.task else "")
        columns = settings | {start: _env(tasks.config(config.task, config.preset))}
        what = start.partition(" ")[0] if config.task is None else "preset and task"
        caption, nothing = f"What differs from {what}", f"All settings are those of {what}."
        names = list(_env(config.env))
    else:
        columns, names = settings, list(dict.fromkeys(name for values in settings.values() for name in values))
        caption, nothing = "What differs between the runs", "All settings are the same."
    differing = [name for name in names if len({values.get(name, _ABSENT) for values in columns.values()}) > 1]
    shown = _mapping_table(caption, {run: _only(values, differing) for run, values in columns.items()})
    everything = _mapping_table("All settings", settings)
    return (
        f"{shown if differing else f'<p>{nothing}</p>'}<details><summary>All settings</summary>{everything}</details>"
    )


def _only(values: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: values[name] for name in names if name in values}


def _settings(run: RecordedRun) -> dict[str, str]:
    fields = run.config.to_dict()
    agent = {f"agent: {name}": value for name, value in fields.pop("agent_settings").items()}
    del fields["env"]
    return {name: _plain(value) for name, value in (fields | agent).items()} | _env(run.config.env)


def _env(config: DistillConfig) -> dict[str, str]:
    return {f"env: {name}": _plain(value) for name, value in config.to_dict().items()}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def version_section(runs: Sequence[RecordedRun]) -> str:
    """Show what each finished run used, how long it took, and with which versions."""
    finished = {run.name: run.summary for run in runs if run.summary is not None}
    if not finished:
        return "<p>They are written down at the end of a run.</p>"
    titles = {
        "used": "What was used",
        "seconds": "Seconds",
        "versions": "Versions",
        "fingerprints": "Fingerprints of the content",
    }
    return "".join(
        _mapping_table(
            title,
            {run: {k: _plain(v) for k, v in summary.get(key, {}).items()} for run, summary in finished.items()},
        )
        for key, title in titles.items()
    )


def _mapping_table(caption: str, columns: Mapping[str, Mapping[str, str]]) -> str:
    names = dict.fromkeys(name for values in columns.values() for name in values)
    rows = [[name, *(values.get(name, _ABSENT) for values in columns.values())] for name in names]
    return _table(caption, ["", *columns], rows, kind="texts")


def _table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "numbers") -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' if title else "<td></td>" for title in header)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    return (  # it takes the focus, so that the arrow keys scroll it where it is wider than the page
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="{kind}">'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
