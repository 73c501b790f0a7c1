"""Students on the Hugging Face hub: ``save_pretrained``, ``from_pretrained`` and ``push_to_hub``, as usual there.

Importing this module needs huggingface_hub: ``pip install -e ".[hub]"``. A repository holds
``model.safetensors``, ``config.json`` with the network's width, and a card.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from student.network import FusionStudent
from student.weights import PRETRAINED, WeightsError, load_into, load_student, metadata_of, save_state

try:
    from huggingface_hub import EvalResult, ModelCard, PyTorchModelHubMixin, hf_hub_download
except ImportError as error:
    raise WeightsError('the hub needs huggingface_hub; in the folder of fusion-env: pip install -e ".[hub]"') from error

__all__ = ["HubStudent", "fetch_weights"]

_TASK = "image-to-image"
_TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

A small network that fuses a registered infrared and visible image into one, in the visible image's colours:
{{ parameters }} parameters (width {{ width }}), the student of AgentFuse (arXiv 2509.02424). Any height and width
from 16 pixels.

```python
import student  # of the package fusion-env

fuser = student.load("{{ repo }}")
fused = fuser(ir=ir, vis=vis)  # numpy, PIL or torch; uint8, uint16, or floating-point in 0..1
```

On the command line: `fusion-student fuse IR VIS -o OUT --weights {{ repo }}`.

## Measured

{{ measured }}

## Limits

- The two images must show the same scene pixel by pixel.
- The network normalises over the whole image, so that a part of the result is not the result of a part.
- {{ data }}
"""


class HubStudent(FusionStudent, PyTorchModelHubMixin, library_name="fusion-env", tags=["image-fusion", "infrared"]):
    """A `FusionStudent` with the usual methods of the hub.

    ``HubStudent.from_pretrained("OWNER/NAME")`` takes a repository or a folder, ``save_pretrained("FOLDER")`` and
    ``push_to_hub("OWNER/NAME")`` write one. With ``model_card_kwargs`` they take what `generate_model_card` does.

    Args:
        width: See `FusionStudent`.
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__(width)

    @classmethod
    def of(cls, student: FusionStudent) -> "HubStudent":
        """Return a student with the same weights and these methods."""
        own = cls(student.width)
        load_into(own, student.state_dict(), type(student).__name__)
        own.exposure_of_sources = student.exposure_of_sources
        return own.eval()

    def generate_model_card(
        self,
        *,
        repo: str = "OWNER/NAME",
        metrics: Mapping[str, float] | None = None,
        dataset: str = "",
        data: str = "See its maker for what it was trained on, and its licence.",
        licence: str = "apache-2.0",
        **_: Any,
    ) -> ModelCard:
        """Write the card.

        Args:
            repo: The repository, for the commands.
            metrics: Value by name, as measured on ``dataset``.
            dataset: What the metrics were measured on; needed with them.
            data: What it was trained on.
            licence: The weights' licence, as the hub calls it.

        Raises:
            ValueError: Metrics without a data set.
        """
        if metrics and not dataset:
            raise ValueError("metrics need the dataset that they were measured on.")
        card = self._hub_mixin_info.model_card_data.__class__(**self._hub_mixin_info.model_card_data.to_dict())
        card.license, card.pipeline_tag, card.model_name = licence, _TASK, repo
        if metrics:
            card.eval_results = [
                EvalResult(_TASK, dataset, dataset, name, float(value)) for name, value in metrics.items()
            ]
        rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in (metrics or {}).items())
        return ModelCard.from_template(
            card,
            template_str=_TEMPLATE,
            title=repo.rpartition("/")[2],
            repo=repo,
            parameters=f"{sum(parameter.numel() for parameter in self.parameters()):,}",
            width=self.width,
            measured=f"Means over {dataset}:\n\n| metric | value |\n|---|---|\n{rows}" if rows else "Nothing yet.",
            data=data,
        )

    def _save_pretrained(self, save_directory: Path) -> None:
        save_state(self.state_dict(), save_directory / PRETRAINED, metadata=metadata_of(self))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> "HubStudent":
        known = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        given = {key: options[key] for key in known if key in options}
        folder = Path(model_id)
        path = folder / PRETRAINED if folder.is_dir() else hf_hub_download(model_id, PRETRAINED, **given)
        return cls.of(load_student(path))  # which tells the width, also where there is no config.json


def fetch_weights(repo: str) -> Path:
    """Fetch a repository's file of weights; without network from the hub's cache on this machine.

    Raises:
        WeightsError: It cannot be fetched.
    """
    try:
        return Path(hf_hub_download(repo, PRETRAINED))
    except Exception as error:  # the hub's own, and those of the network below it
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise WeightsError(
            f"{repo} is no file or folder here, and cannot be fetched from the Hugging Face hub: {reason}"
        ) from error
