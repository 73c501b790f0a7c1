"""Griffe extension: docstrings as Markdown."""

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
_ENVIRONMENT = "fusion_env.env.FusionDistillEnv"


class Docstrings(Extension):
    """Fence the examples, and give the environment's manual, whose tables are filled in at import, a page of its own."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is None:
            return
        text = obj.docstring.value
        if obj.path == _ENVIRONMENT:
            summary, arguments = text.split("\n", 1)[0], re.search(r"^Args:.*?(?=^## )", text, re.MULTILINE | re.DOTALL)[0]
            text = f"{summary}\n\nSee [The environment](../reference/environment.md).\n\n{arguments}"
        obj.docstring.value = _EXAMPLE.sub(lambda example: f"```pycon\n{example[0].rstrip()}\n```", text)
