"""End a run on SIGINT or SIGTERM at a moment from which it can go on."""

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["Interrupted", "StopRequest", "interrupt_at_once", "stop_on_request"]

# Seconds until a run that reaches no good moment is cut off all the same; its last checkpoint counts then.
_PATIENCE_S = 2
_REQUESTS = (signal.SIGINT, signal.SIGTERM)


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
        if hasattr(signal, "alarm"):
            signal.alarm(_PATIENCE_S)

    handlers = dict.fromkeys(_REQUESTS, handle)
    if hasattr(signal, "SIGALRM"):
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
        if hasattr(signal, "alarm"):
            signal.alarm(_PATIENCE_S)
        raise Interrupted("stopped")

    def cut_off_again(number: int, frame: object) -> None:
        if _is_ending():
            signal.alarm(_PATIENCE_S)
        else:
            cut_off(number, frame)

    handlers = dict.fromkeys(_REQUESTS, cut_off)
    if hasattr(signal, "SIGALRM"):
        handlers[signal.SIGALRM] = cut_off_again
    with _handled_by(handlers):
        yield


def _is_ending() -> bool:
    """Tell whether the code that is running cleans up after an `Interrupted`, which must not be cut off itself."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error is not None


@contextmanager
def _handled_by(handlers: Mapping[signal.Signals, Callable[[int, object], None]]) -> Iterator[None]:
    """Let signals go to these handlers; one that comes while they are set or put back is dealt with right after."""
    inside, late = False, []

    def while_inside(handler: Callable[[int, object], None]) -> Callable[[int, object], None]:
        def handle(number: int, frame: object) -> None:
            if inside:
                handler(number, frame)
            else:
                late.append(number)  # a handler that raised here would leave some of them in place

        return handle

    before = {number: signal.getsignal(number) for number in handlers}
    alarm = 0
    try:
        for number, handler in handlers.items():
            signal.signal(number, while_inside(handler))
        if hasattr(signal, "alarm"):
            # A stop that was swallowed outside comes again in here, or afterwards.
            alarm = signal.alarm(0)
            signal.alarm(alarm)
        inside = True
        _raise_again(late)
        yield
    finally:
        inside = False
        if hasattr(signal, "alarm"):
            signal.alarm(0)  # one that comes after its handler is gone would end the process
        _put_back(before)
        if alarm:
            signal.alarm(1)
        _raise_again(late)


def _raise_again(late: list[int]) -> None:
    came = set(late).intersection(_REQUESTS)
    late.clear()
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
