"""The paper's own numbers, as far as they are at hand."""

from functools import cache
from importlib.resources import files
from io import StringIO

import pandas as pd

__all__ = ["published"]


@cache
def published(table: int) -> dict[tuple[str, str, str], float]:
    """Return numbers of one of the paper's tables by data set, method and metric, called as in this package.

    The file ``published.csv`` holds them. Those that are not in it are not at hand; rows can be added to it.
    """
    text = files("experiments.paper").joinpath("published.csv").read_text(encoding="utf-8")
    rows = pd.read_csv(StringIO(text), comment="#")
    rows = rows[rows["table"] == table]
    return {(row.data, row.method, row.metric): float(row.value) for row in rows.itertuples()}
