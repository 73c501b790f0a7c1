"""Report images, two at a time on top of each other with a slider between them."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from experiments.reporting.recorded import RecordedRun
from experiments.running.figures import CLEAN_TITLES, IMAGE_TITLES

__all__ = ["picture_section"]

_LEFT, _RIGHT = "stage0", "delivered"
_TITLES = IMAGE_TITLES | CLEAN_TITLES


def picture_section(runs: Sequence[RecordedRun]) -> str:
    """Show the report pairs that each run has images of."""
    most = max(len(run.images) for run in runs)
    rows = [
        f'<div class="pairs">{"".join(_compare(run, number) for run in runs if number < len(run.images))}</div>'
        for number in range(most)
    ]
    hint = (
        "<p>Drag over a picture, or move the slider with the arrow keys. Choose below it what stands on each side.</p>"
    )
    return hint * bool(most) + "".join(rows) + "".join(_without_images(run) for run in runs if not run.images)


def _compare(run: RecordedRun, number: int) -> str:
    name = f"{run.name}, report pair {number + 1}"
    images = "".join(
        f'<img data-name="{key}" class="{"left" * (key == _LEFT)}{"right" * (key == _RIGHT)}" src="{_data(path)}" '
        f'alt="{escape(f"{name}: {_TITLES[key]}")}">'
        for key, path in run.images[number].items()
    )
    sides = (("left", _LEFT), ("right", _RIGHT))
    choices = [_choice(side, chosen, run.images[number], name) for side, chosen in sides]
    return (
        f'<figure class="compare"><figcaption>{escape(name)}</figcaption><div class="stack">{images}</div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="{escape(name)}: where the left image ends">'
        f'<div class="sides">{"".join(choices)}</div></figure>'
    )


def _choice(side: str, chosen: str, keys: Iterable[str], name: str) -> str:
    options = "".join(
        f'<option value="{key}"{" selected" * (key == chosen)}>{escape(_TITLES[key])}</option>' for key in keys
    )
    return f'<select data-side="{side}" aria-label="{escape(name)}: image on the {side}">{options}</select>'


def _without_images(run: RecordedRun) -> str:
    if run.preview is not None:
        note = "an older version wrote this picture alone"
        picture = (
            f'<img class="preview" src="{_data(run.preview)}" alt="{escape(run.name)}: report images side by side">'
        )
    else:
        picture = ""
        note = (
            "no pictures: the run is unfinished" if run.summary is None else "no pictures (--no-details, or diverged)"
        )
    return f"<figure><figcaption>{escape(run.name)}: {note}</figcaption>{picture}</figure>"


def _data(path: Path) -> str:
    return f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"
