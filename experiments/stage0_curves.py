"""Moved to `experiments/studies/stage0_curves.py`; the old path works for one version."""

from experiments.command_line import run_moved

run_moved(__name__, "experiments.studies.stage0_curves")
