"""Griffe extension: docstrings as Markdown."""

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
_ARGUMENTS = re.compile(r"^Args:.*?(?=^## )", re.MULTILINE | re.DOTALL)
_ENVIRONMENT = "fusion_env.env.FusionDistillEnv"


class Docstrings(Extension):
    """Fence the examples; leave the environment's manual, whose tables are filled in at import, to its own page."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is None:
            return
        text = obj.docstring.value
        if obj.path == _ENVIRONMENT:
            summary = text.partition("\n")[0]
            text = f"{summary}\n\nSee [The environment](../reference/environment.md).\n\n{_ARGUMENTS.search(text)[0]}"
        obj.docstring.value = _EXAMPLE.sub(lambda example: f"```pycon\n{example[0].rstrip()}\n```", text)
