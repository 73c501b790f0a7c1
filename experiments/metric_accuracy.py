"""Moved to `experiments/measurements/metric_accuracy.py`; the old path works for one version."""

from experiments.command_line import run_moved

run_moved(__name__, "experiments.measurements.metric_accuracy")
