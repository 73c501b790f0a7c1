"""What the scripts write for people: Markdown tables, CSV files, pages and figures, each whole or not at all."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from student.files import write_atomic

__all__ = [
    "markdown_row",
    "markdown_table",
    "print_or_write",
    "save_figure",
    "without_surrogates",
    "write_csv",
    "write_text",
]


def markdown_table(
    header: Sequence[str],
    rows: Iterable[Iterable[object]],
    *,
    decimals: int | None = None,
    right_from: int | None = None,
) -> str:
    r"""Lay out a table in Markdown, without a line end.

    Args:
        header: Titles of the columns.
        rows: Cells of each row.
        decimals: Of cells that are a `float`; None writes them in full.
        right_from: First of the columns that are aligned to the right; None for none.

    >>> print(markdown_table(["network", "params (M)"], [["student", 0.6524]], decimals=2))
    | network | params (M) |
    |---|---|
    | student | 0.65 |
    """
    right = len(header) if right_from is None else right_from
    rules = ("---:" if column >= right else "---" for column in range(len(header)))
    return "\n".join([markdown_row(header), f"|{'|'.join(rules)}|", *(markdown_row(row, decimals) for row in rows)])


def markdown_row(cells: Iterable[object], decimals: int | None = None) -> str:
    """Write one line of a table; see `markdown_table`."""
    return f"| {' | '.join(_cell(value, decimals) for value in cells)} |"


def _cell(value: object, decimals: int | None) -> str:
    text = str(value) if decimals is None or not isinstance(value, float) else f"{value:.{decimals}f}"
    return text.replace("|", "\\|")


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], digits: int | None = None) -> None:
    """Write rows as CSV; the keys of the first are the header.

    Args:
        path: The file; its folder is made if need be.
        rows: At least one, all with the same keys.
        digits: Significant digits of floats, where NaN is an empty cell; None writes them in full.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _rounded(value, digits) for name, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def _rounded(value: object, digits: int | None) -> object:
    if digits is None or not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.{digits}g}"


def without_surrogates(text: str) -> str:
    """Decode file names of a locale that is not UTF-8, such as C; what is no UTF-8 at all becomes escapes."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; its folder is made if need be."""
    write_atomic(path, without_surrogates(text).encode())


def print_or_write(page: str, path: Path | None) -> None:
    """Write a page to a file, or print it where none is given."""
    if path is None:
        print(page)
    else:
        write_text(path, page)


def save_figure(figure: Figure, path: Path, dpi: int = 100) -> None:
    """Write a figure as PNG, drawn by Agg whatever backend the process uses; its folder is made if need be."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, backend="agg")
    write_atomic(path, buffer.getvalue())
