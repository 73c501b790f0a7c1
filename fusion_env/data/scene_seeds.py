"""Which procedural scenes serve what, so that nothing is judged by scenes that it learnt from.

A scene depends on the seed of its `ProceduralScenes`, its index and its size. Every purpose has seeds of its own.
"""

from types import MappingProxyType

from fusion_env.errors import ConfigError, unknown_name

__all__ = ["SEEDS_EACH", "reserved", "scene_seed"]

SEEDS_EACH = 1_000_000
"""Number of seeds of each purpose."""

_PURPOSES = ("embedded", "embedded check", "training", "reward", "report", "tuning")

reserved = MappingProxyType(
    {purpose: range(place * SEEDS_EACH, (place + 1) * SEEDS_EACH) for place, purpose in enumerate(_PURPOSES)}
)
"""Seeds by purpose.

``"embedded"``: training of the networks that come with the package; ``"embedded check"``: their cards.
``"training"``, ``"reward"``, ``"report"``: what a student learns from, what pays the agent, what is reported.
``"tuning"``: choice of an agent's settings.
"""


def scene_seed(purpose: str, seed: int = 0) -> int:
    """Return the seed of `ProceduralScenes` that belongs to a run's seed.

    Args:
        purpose: One of `reserved`.
        seed: Of the run, 0 to 999,999.

    Raises:
        UnknownNameError: If there is no such purpose.
        ConfigError: If the seed leaves the range of the purpose.

    >>> scene_seed("report", 7)
    4000007
    """
    if purpose not in reserved:
        raise unknown_name("purpose of scenes", purpose, list(reserved))
    if not 0 <= seed < SEEDS_EACH:
        raise ConfigError(f"seed of scenes must lie in 0..{SEEDS_EACH - 1}, got {seed}")
    return reserved[purpose][seed]
