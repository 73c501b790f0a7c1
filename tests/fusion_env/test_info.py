"""Numbers whose NaN equals NaN."""

import json
import math
import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fusion_env.info import InfoNumber


@given(st.floats())
def test_a_number_is_like_the_float(value: float) -> None:
    number = InfoNumber(value)
    assert repr(number) == str(number) == repr(value)
    assert json.dumps(number) == json.dumps(value)
    assert pickle.loads(pickle.dumps(number)) == number
    assert number == InfoNumber(value)
    assert np.asarray([number]).dtype == np.float64


def test_unknown_is_nan_and_equals_itself_only() -> None:
    unknown = InfoNumber("nan")
    assert math.isnan(unknown)
    assert np.isnan(unknown)
    assert unknown == InfoNumber("nan")
    assert unknown != 0.0
    assert unknown != "nan"
    assert InfoNumber(1.5) == 1.5
    assert InfoNumber(1.5) != 2.5
