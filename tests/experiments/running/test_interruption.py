"""Signals that end a run."""

import contextlib
import os
import signal
import time

import pytest

from experiments.running.interruption import Interrupted, interrupt_at_once

pytestmark = pytest.mark.skipif(not hasattr(signal, "alarm"), reason="no alarm signals here")


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_stop_that_something_swallows_comes_again(number: int) -> None:
    def block() -> None:
        with interrupt_at_once():
            with contextlib.suppress(Exception):
                os.kill(os.getpid(), number)
                time.sleep(10)
            start = time.monotonic()
            while time.monotonic() - start < 10:
                time.sleep(0.01)

    before = signal.getsignal(signal.SIGALRM)
    start = time.monotonic()
    with pytest.raises(Interrupted):
        block()
    assert time.monotonic() - start < 5
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.alarm(0) == 0


@pytest.mark.slow
def test_cleaning_up_is_not_cut_off() -> None:
    cleaned = []

    def block() -> None:
        with interrupt_at_once():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(10)
            finally:
                with contextlib.suppress(KeyError):
                    {}["an error of its own"]
                until = time.monotonic() + 3  # longer than it takes to raise a swallowed one again
                while time.monotonic() < until:
                    time.sleep(0.01)
                cleaned.append(True)

    with pytest.raises(Interrupted):
        block()
    assert cleaned
    assert signal.alarm(0) == 0
