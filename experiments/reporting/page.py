"""The page: one HTML file that needs nothing else, neither files nor a network."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from experiments.reporting.pictures import picture_section
from experiments.reporting.recorded import RecordedRun
from experiments.reporting.rounds import curve_section, schedule_section
from experiments.reporting.tables import score_section, setting_section, version_section

__all__ = ["report_page"]

# Nothing is fetched from anywhere, whatever a file name or a setting of a run holds.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def report_page(runs: Sequence[RecordedRun]) -> str:
    """Write the page of one run, or of several side by side.

    Args:
        runs: At least one.
    """
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    sections = {
        "scores": ("Scores", score_section(runs)),
        "pictures": ("Before and after", picture_section(runs)),
        "curves": ("Curves", curve_section(runs)),
        "schedules": ("Schedules", schedule_section(runs)),
        "settings": ("Configuration", setting_section(runs)),
        "versions": ("Data, networks, versions", version_section(runs)),
    }
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, (heading, _) in sections.items())
    body = "".join(
        f'<section id="{name}"><h2>{heading}</h2>{content}</section>' for name, (heading, content) in sections.items()
    )
    own = files(__package__)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>{escape(title)} \N{MIDDLE DOT} fusion distillation</title>'
        f"<style>{own.joinpath('page.css').read_text(encoding='utf-8')}</style></head><body>"
        f"<header><p>Infrared-visible fusion, distilled by an agent</p><h1>{escape(title)}</h1><nav "
        f'aria-label="Sections">{links}</nav></header><main><div class="cards">{"".join(map(_card, runs))}</div>'
        f"{body}</main><script>{own.joinpath('page.js').read_text(encoding='utf-8')}</script></body></html>\n"
    )


def _card(run: RecordedRun) -> str:
    config, done = run.config, f"{len(run.rows)} of {run.config.total_rounds} rounds"
    what = f"{config.agent} \N{MIDDLE DOT} {config.protocol} \N{MIDDLE DOT} {config.start}, seed {config.seed}"
    return (
        f'<article class="card"><h2>{escape(run.name)}</h2><p>{escape(what)}</p>'
        f'<p><b class="state">{_state(run)}</b> {done}</p>{_outcome(run)}</article>'
    )


def _state(run: RecordedRun) -> str:
    if run.summary is None:
        return "unfinished"
    return "agent diverged" if run.summary["agent_diverged"] else "finished"


def _outcome(run: RecordedRun) -> str:
    if run.summary is None:
        return (
            "<p>Scores and pictures come at the end. Go on with <code>python experiments/run_agent.py --resume "
            f"{escape(str(run.path))}</code></p>"
        )
    if run.summary["agent_diverged"]:
        return f"<p>{escape(run.summary['agent_diverged'])}</p>"
    report = run.summary["report"]
    figures = (("E of Eq. 6, higher is better", "e"), ("distance to the teacher (MAE), lower is better", "mae"))
    return "".join(
        f'<p class="figure"><span>{meaning}</span>{report["stage0"][name]:.3f} \N{RIGHTWARDS ARROW} '
        f"<b>{report['final'][name]:.3f}</b></p>"
        for meaning, name in figures
    )
