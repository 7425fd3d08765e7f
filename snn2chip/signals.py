"""How Ctrl-C and SIGTERM end the command: one line and 130 or 143, from its first import on.

Until the command listens nothing has been written and no child started, so the process leaves on the spot: an import
that is interrupted may swallow the interruption, or turn it into an error of its own. Later both are exceptions.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any, NoReturn

INTERRUPTED = 130
TERMINATED = 143
WORDS = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}
_USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Terminated(KeyboardInterrupt):
    """SIGTERM: goes the way of Ctrl-C, so that children end and nothing half-written stays."""


def code_of(error: KeyboardInterrupt) -> int:
    """The exit code that belongs to an interruption."""
    return TERMINATED if isinstance(error, Terminated) else INTERRUPTED


def leave_early() -> None:
    """Until `listen`: a signal writes its line and ends the process. One that is ignored stays ignored."""
    _exchange(_USUAL, dict.fromkeys(_USUAL, _leave))


def listen() -> None:
    """From here on: KeyboardInterrupt for SIGINT, `Terminated` for SIGTERM."""
    owner = os.getpid()

    def terminate(number: int, frame: Any) -> None:
        if os.getpid() == owner:
            raise Terminated
        signal.signal(number, signal.SIG_DFL)  # a forked child
        os.kill(os.getpid(), number)

    then = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: terminate}
    _exchange(_USUAL, then)
    _exchange(dict.fromkeys(_USUAL, _leave), then)


def _leave(number: int, frame: Any) -> NoReturn:
    code = TERMINATED if number == signal.SIGTERM else INTERRUPTED
    try:
        os.write(2, f"error: {WORDS[code]}\n".encode())
    finally:
        os._exit(code)


def _exchange(before: dict[signal.Signals, Any], then: dict[signal.Signals, Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may
    for number, handler in before.items():
        if signal.getsignal(number) == handler:
            signal.signal(number, then[number])
