"""End a run on SIGINT or SIGTERM at a moment from which it can go on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Interrupted", "StopRequest", "interrupt_at_once", "stop_on_request"]

# Seconds until a run that reaches no good moment is cut off all the same; its last checkpoint counts then.
_PATIENCE_S = 2


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
    """
    request = StopRequest()

    def handle(number: int, frame: object) -> None:
        if request.received and number == signal.SIGINT:
            raise Interrupted("stopped in the middle of a round")
        request.received = True
        if hasattr(signal, "alarm"):
            signal.alarm(_PATIENCE_S)

    def cut_off(number: int, frame: object) -> None:
        raise Interrupted("stopped in the middle of a round")

    handlers = {signal.SIGINT: handle, signal.SIGTERM: handle}
    if hasattr(signal, "SIGALRM"):
        handlers[signal.SIGALRM] = cut_off
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield request
    finally:
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupt_at_once() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Interrupted` where the block stands, which has nothing of its own to save.

    A block of `stop_on_request` inside takes over while it lasts.
    """

    def cut_off(number: int, frame: object) -> None:
        raise Interrupted("stopped")

    before = {number: signal.signal(number, cut_off) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
