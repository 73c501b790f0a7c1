"""Steer the distillation of an infrared-visible image-fusion network with reinforcement learning (arXiv 2509.02424).

Importing the package registers the environments ``fusion_env/FusionDistill-v0`` (preset demo),
``fusion_env/FusionDistillPaper-v0`` and ``fusion_env/FusionDistillTiny-v0``; and, for debugging,
``fusion_env/FusionDistillSurrogate-v0``, a model that imitates the last of them.
"""

from fusion_env.siblings import check_sibling

check_sibling("student", "network")  # before anything imports it

import gymnasium  # noqa: E402

from fusion_env import tasks  # noqa: E402
from fusion_env.config import PRESETS, DistillConfig, preset  # noqa: E402
from fusion_env.threads import survive_forks  # noqa: E402
from fusion_env.version import __version__  # noqa: E402

__all__ = ["PRESETS", "DistillConfig", "__version__", "preset", "tasks"]

for _id, _preset in (
    ("fusion_env/FusionDistill-v0", "demo"),
    ("fusion_env/FusionDistillPaper-v0", "paper"),
    ("fusion_env/FusionDistillTiny-v0", "tiny"),
):
    gymnasium.register(
        id=_id,
        entry_point="fusion_env.env:FusionDistillEnv",
        vector_entry_point="fusion_env.vector_env:FusionDistillVectorEnv",
        kwargs={"preset": _preset},
    )

gymnasium.register(
    id="fusion_env/FusionDistillSurrogate-v0",
    entry_point="fusion_env.surrogate.env:FusionDistillSurrogateEnv",
    vector_entry_point="fusion_env.surrogate.vector_env:FusionDistillSurrogateVectorEnv",
)

survive_forks()
