"""Signals that end a run."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from experiments.running.interruption import Interrupted, interrupt_at_once, stop_on_request

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


@pytest.mark.parametrize("block", [interrupt_at_once, stop_on_request])
def test_a_signal_at_the_very_end_leaves_no_alarm(block: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is left would end the process two seconds later, when the handler of alarms is the system's again.
    set_timer, mine = signal.setitimer, []

    def set_then_signal(which: int, seconds: float) -> tuple[float, float]:
        left = set_timer(which, seconds)
        if seconds == 0 and not mine:
            signal.raise_signal(signal.SIGTERM)
        return left

    before = signal.signal(signal.SIGTERM, lambda number, frame: mine.append(number))
    try:
        with block():
            monkeypatch.setattr(signal, "setitimer", set_then_signal)
    finally:
        left = signal.alarm(0)
        signal.signal(signal.SIGTERM, before)
    assert (mine, left) == ([signal.SIGTERM], 0)


@pytest.mark.parametrize("block", [interrupt_at_once, stop_on_request])
def test_a_signal_while_handlers_are_put_back_goes_to_those(block: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    set_handler, mine = signal.signal, []

    def signal_then_set(number: int, handler: Callable) -> Callable:
        if not raised:
            raised.append(os.kill(os.getpid(), signal.SIGTERM))
        return set_handler(number, handler)

    raised: list[None] = []
    before = set_handler(signal.SIGTERM, lambda number, frame: mine.append(number))
    others = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)]
    try:
        with monkeypatch.context() as patch, block():
            patch.setattr(signal, "signal", signal_then_set)
        assert mine == [signal.SIGTERM]
        assert others == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)]
        assert signal.alarm(0) == 0
    finally:
        set_handler(signal.SIGTERM, before)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("moment", ["start", "end"])
@pytest.mark.parametrize("block", [interrupt_at_once, stop_on_request])
def test_a_signal_between_two_handlers_leaves_none_of_ours(
    block: Callable, moment: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_handler, calls = signal.signal, []

    def set_then_signal(which: int, handler: Callable) -> Callable:
        earlier = set_handler(which, handler)
        calls.append(which)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGINT)
        return earlier

    def run() -> None:
        with monkeypatch.context() as patch:
            if moment == "start":
                patch.setattr(signal, "signal", set_then_signal)
            with block():
                patch.setattr(signal, "signal", set_then_signal if moment == "end" else set_handler)

    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGALRM
    before = [signal.getsignal(number) for number in numbers]
    try:
        set_handler(signal.SIGINT, signal.default_int_handler)  # shells let what they start behind them ignore it
        with pytest.raises((Interrupted, KeyboardInterrupt)):
            run()
        assert [signal.getsignal(number) for number in numbers] == [signal.default_int_handler, *before[1:]]
        assert signal.alarm(0) == 0
    finally:
        for which, handler in zip(numbers, before, strict=True):
            set_handler(which, handler)


@pytest.mark.parametrize("block", [interrupt_at_once, stop_on_request])
def test_somebody_elses_alarm_waits_and_keeps_its_time(block: Callable) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: came.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 60, 30)
        with block():
            pass
        left, interval = signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert (59 < left <= 60, interval) == (True, 30)
        with block():
            time.sleep(0.2)
            assert not came
        time.sleep(0.1)
        assert came
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("block", [interrupt_at_once, stop_on_request])
def test_other_threads_are_refused_and_touch_nothing(block: Callable) -> None:
    refused: list[str] = []

    def run() -> None:
        try:
            with block():
                pass
        except ValueError as error:
            refused.append(str(error))

    signal.alarm(60)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        left = signal.alarm(0)
    assert "main thread" in refused[0]
    assert left > 50


@pytest.mark.slow
@pytest.mark.parametrize(("inside", "outside"), [(0.3, 0.3), (0.9, 0.0), (0.0, 0.1)])
def test_a_swallowed_stop_outlives_many_short_blocks_inside(inside: float, outside: float) -> None:
    def block() -> None:
        with interrupt_at_once():
            with contextlib.suppress(Exception):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(10)
            while time.monotonic() - start < 10:
                with stop_on_request():
                    time.sleep(inside)
                time.sleep(outside)

    start = time.monotonic()
    with pytest.raises(Interrupted):
        block()
    assert time.monotonic() - start < 5
    assert signal.alarm(0) == 0


@pytest.mark.slow
def test_a_swallowed_stop_outlives_a_block_inside() -> None:
    def block() -> None:
        with interrupt_at_once():
            with contextlib.suppress(Exception):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(10)
            with stop_on_request():
                pass
            until = time.monotonic() + 10
            while time.monotonic() < until:
                time.sleep(0.01)

    with pytest.raises(Interrupted):
        block()
    assert signal.alarm(0) == 0
