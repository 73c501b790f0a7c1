"""Moved to `experiments/weights/train_student.py`; the old path works for one version."""

from experiments.command_line import run_moved

run_moved(__name__, "experiments.weights.train_student")
