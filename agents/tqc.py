"""Truncated quantile critics; importing this module needs sb3-contrib."""

import sb3_contrib

from agents.stable_baselines import SteadyNoise

__all__ = ["TQC"]


class TQC(SteadyNoise, sb3_contrib.TQC):
    """Truncated quantile critics of SB3-Contrib; see its documentation for the other settings."""
