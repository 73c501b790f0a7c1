"""Arrays whose rows have names."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch

from fusion_env.info import NamedValues

VALUES = {"vif": 0.5, "iqa": math.nan}
NESTED = {"student": {"vif": 0.5, "iqa": 0.25}, "teacher": {"vif": 1.0, "iqa": 2.0}}


def test_an_array_for_clients() -> None:
    values = NamedValues(VALUES)
    assert isinstance(values, np.ndarray)
    assert (values.dtype, values.shape) == (np.float64, (2,))
    assert torch.as_tensor(values)[0] == 0.5
    assert np.array_equal(np.stack([values, values])[:, 0], [0.5, 0.5])
    assert values[0] == 0.5
    assert values[:1].tolist() == [0.5]


def test_a_mapping_for_people() -> None:
    values = NamedValues(NESTED)
    assert values.shape == (2, 2)
    assert values["teacher"]["iqa"] == 2.0
    assert list(values) == list(values.keys()) == ["student", "teacher"]
    assert list(values["student"].values()) == [0.5, 0.25]
    assert "student" in values
    assert "nobody" not in values
    assert dict(values["student"]) == NESTED["student"] == values["student"]
    assert values["student"] != NESTED["teacher"]
    with pytest.raises(KeyError, match="nobody"):
        values["nobody"]


def test_unknown_equals_unknown_for_the_checker() -> None:
    assert np.allclose(NamedValues(VALUES), NamedValues(VALUES))
    assert not np.allclose(NamedValues(VALUES), NamedValues({"vif": 0.5, "iqa": 0.5}))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda values: pickle.loads(pickle.dumps(values))])
def test_copies_keep_the_names(again: object) -> None:
    values = again(NamedValues(NESTED))
    assert values["student"] == NESTED["student"]
    assert values.names == (("student", "teacher"), ("vif", "iqa"))


def test_results_of_arithmetic_are_arrays() -> None:
    doubled = 2 * NamedValues(NESTED)
    assert doubled.sum() == 7.5
    assert doubled[0, 1] == 0.5
