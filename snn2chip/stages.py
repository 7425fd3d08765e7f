"""Seconds per stage of a compile: whoever listens gets a row per stage and pass, in the order in which they began.

with listening() as rows:
    compile(...)
rows[0].name, rows[0].seconds
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

import attrs

P = ParamSpec("P")
R = TypeVar("R")


@attrs.define(kw_only=True)
class Stage:
    """`depth` 1 runs inside the row above it of depth 0; `seconds` by the wall clock, `cpu` of this process."""

    name: str
    depth: int
    seconds: float = 0.0
    cpu: float = 0.0


@attrs.define
class _Listener:
    rows: list[Stage] = attrs.field(factory=list)
    depth: int = 0


_NOW: ContextVar[_Listener | None] = ContextVar("stages", default=None)


@contextmanager
def listening() -> Iterator[list[Stage]]:
    """Yield a list that every stage of the block is added to; an outer listener hears nothing of it."""
    listener = _Listener()
    token = _NOW.set(listener)
    try:
        yield listener.rows
    finally:
        _NOW.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time the block under `name`, if anybody listens."""
    listener = _NOW.get()
    if listener is None:
        yield
        return
    row = Stage(name=name, depth=listener.depth)
    listener.rows.append(row)
    listener.depth += 1
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        row.seconds, row.cpu = time.perf_counter() - wall, time.process_time() - cpu
        listener.depth -= 1


def staged(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function that is a stage."""

    def wrapped(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            with stage(name):
                return function(*args, **kwargs)

        return timed

    return wrapped
