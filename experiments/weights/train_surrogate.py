"""Fit the model of the surrogate environment to recorded runs, and judge how it ranks policies that it has not seen.

python experiments/weights/train_surrogate.py --runs runs/surrogate --out fusion_env/assets

What is missing in the folder of runs is run first, in the real environment on one thread; the same command goes on where
it was stopped. The fit itself takes a minute.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.output import write_text
from experiments.running.episodes import recorded_episodes
from experiments.running.recorded import open_recorded
from experiments.weights.surrogate_card import card
from experiments.weights.surrogate_runs import fit_runs, held_out_runs, make_runs
from experiments.weights.training import train_from_scratch
from fusion_env.config import INDICATORS
from fusion_env.data import Progress
from fusion_env.surrogate.model import Surrogate, load_surrogate, round_features
from fusion_env.updates import Schedule
from student.weights import save_state

__all__ = ["Recording", "fit", "main", "read_recordings"]

_HIDDEN, _STEPS, _LEARNING_RATE, _BATCH = 32, 800, 0.003, 256
_FOLDS = 5

Array = NDArray[np.float64]
