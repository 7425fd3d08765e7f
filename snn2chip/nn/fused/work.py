"""Kernels over all neurons of a layer, on as many threads as torch has; sums do not depend on how many."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

R = TypeVar("R")

CHUNK = 1 << 18  # neurons of one piece of work; sums are added piece by piece in order
_pool: tuple[int, int, ThreadPoolExecutor] | None = None


def spread(work: Callable[[int, int], R], count: int) -> list[R]:
    """Return work(first, last) of every piece of `count` neurons, in order."""
    pieces = [(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
    threads = min(torch.get_num_threads(), len(pieces))
    if threads < 2:
        return [work(*piece) for piece in pieces]
    return list(_threads(threads).map(lambda piece: work(*piece), pieces))


def _threads(count: int) -> ThreadPoolExecutor:
    """A pool of this process: one that was forked has none of its parent's threads."""
    global _pool
    if _pool is None or _pool[:2] != (os.getpid(), count):
        _pool = (os.getpid(), count, ThreadPoolExecutor(count, thread_name_prefix="snn2chip-neurons"))
    return _pool[2]
