"""End a run on SIGINT or SIGTERM at a moment from which it can go on."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Interrupted", "StopRequest", "interrupt_at_once", "stop_on_request"]

# Seconds until a run that reaches no good moment is cut off all the same; its last checkpoint counts then.
_PATIENCE_S = 2
_AT_ONCE_S = 0.001
_REQUESTS = (signal.SIGINT, signal.SIGTERM)
_HAS_ALARMS = hasattr(signal, "setitimer")


class Interrupted(Exception):
    """The run was stopped on request; its directory can be resumed."""


class StopRequest:
    """Whether a stop was asked for."""

    def __init__(self) -> None:
        self.received = False

    def __bool__(self) -> bool:
        return self.received


@contextmanager
def stop_on_request() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request that the block looks at when it can stop.

    A block that does not end within two seconds gets `Interrupted` where it stands (on systems with alarm signals),
    and so does one whose user presses Ctrl-C again.

    Raises:
        Interrupted: The block ended all the same: what would come next must not begin.
    """
    request = StopRequest()

    def handle(number: int, frame: object) -> None:
        if request.received and number == signal.SIGINT:
            _cut_off(number, frame)
        request.received = True
        _set_alarm(_PATIENCE_S)

    handlers = dict.fromkeys(_REQUESTS, handle)
    if _HAS_ALARMS:
        handlers[signal.SIGALRM] = _cut_off
    with _handled_by(handlers):
        yield request
    if request:
        raise Interrupted("stopped just when it had ended")


def _cut_off(number: int, frame: object) -> None:
    raise Interrupted("stopped in the middle of a round")


@contextmanager
def interrupt_at_once() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Interrupted` where the block stands, which has nothing of its own to save.

    Code that takes any exception for an answer can swallow it there; it is then raised again after two seconds (on
    systems with alarm signals). A block of `stop_on_request` inside takes over while it lasts.
    """

    def cut_off(number: int, frame: object) -> None:
        _set_alarm(_PATIENCE_S)
        raise Interrupted("stopped")

    def cut_off_again(number: int, frame: object) -> None:
        if _is_ending():
            _set_alarm(_PATIENCE_S)
        else:
            cut_off(number, frame)

    handlers = dict.fromkeys(_REQUESTS, cut_off)
    if _HAS_ALARMS:
        handlers[signal.SIGALRM] = cut_off_again
    with _handled_by(handlers):
        yield


def _is_ending() -> bool:
    """Tell whether the code that is running cleans up after an `Interrupted`, which must not be cut off itself."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error is not None


@dataclass
class _Gate:
    """Whether handlers of a block act; signals that come before or after, as handlers are changed, are kept.

    A handler that raised there would leave some of them in place.
    """

    is_open: bool = False
    late: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Guarded:
    """A handler of a block."""

    handler: Callable[[int, object], None]
    gate: _Gate

    def __call__(self, number: int, frame: object) -> None:
        if self.gate.is_open:
            self.handler(number, frame)
        else:
            self.gate.late.append(number)


@contextmanager
def _handled_by(handlers: Mapping[signal.Signals, Callable[[int, object], None]]) -> Iterator[None]:
    """Let signals go to these handlers; one that comes while they are set or put back is dealt with right after.

    An alarm that is pending belongs to what is around the block. One of an outer block, which raises a swallowed stop
    again, may come inside; anybody else's waits. Either has its time left afterwards.

    Raises:
        ValueError: This is not the main thread, the only one that gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("signals are handled in the main thread only: start the run there")
    gate = _Gate()
    before = {number: signal.getsignal(number) for number in handlers}
    left, interval, started = 0.0, 0.0, time.monotonic()
    try:
        if _HAS_ALARMS:
            left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, _Guarded(handler, gate))
        gate.is_open = True
        if left and isinstance(before.get(signal.SIGALRM), _Guarded):
            _set_alarm(left)
        _raise_again(gate)
        yield
    finally:
        gate.is_open = False
        _set_alarm(0)  # one that comes after its handler is gone would end the process
        _put_back(before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - started), _AT_ONCE_S), interval)
        _raise_again(gate)


def _set_alarm(seconds: float) -> None:
    if _HAS_ALARMS:
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _raise_again(gate: _Gate) -> None:
    came = set(gate.late).intersection(_REQUESTS)
    gate.late.clear()
    for number in came:
        signal.raise_signal(number)


def _put_back(before: dict[signal.Signals, Any]) -> None:
    """Put handlers back: all of them, also where one that is back already raises for a signal that comes meanwhile."""
    try:
        while before:
            number = next(iter(before))
            # None is one that Python did not set and cannot set.
            signal.signal(number, before[number] or signal.SIG_DFL)
            del before[number]
    finally:
        if before:
            _put_back(before)
