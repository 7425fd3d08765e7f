"""Who shares the work of what is called inside: `with sharing(workers): compile(...)`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snn2chip.shards.workers import Workers

_NOW: ContextVar[Workers | None] = ContextVar("workers", default=None)


def workers() -> Workers | None:
    """Who shares the work here; None: nobody."""
    return _NOW.get()


@contextmanager
def sharing(chosen: Workers | None) -> Iterator[None]:
    """Share the calibration of a compile inside the block among workers."""
    token = _NOW.set(chosen)
    try:
        yield
    finally:
        _NOW.reset(token)
