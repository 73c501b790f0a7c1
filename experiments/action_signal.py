"""Moved to `experiments/studies/action_signal.py`; the old path works for one version."""

from experiments.command_line import run_moved

run_moved(__name__, "experiments.studies.action_signal")
