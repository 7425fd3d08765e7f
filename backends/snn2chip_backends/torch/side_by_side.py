"""Samples side by side on the CPU: every thread computes samples of its own, with the libraries on one thread each.

Sharing each product and each pass costs a hand-over in every layer; samples are independent, so one hand-over for all
layers is enough. Smaller runs, which are captured, are over before that pays. The integers are those of one thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from threading import Barrier
from typing import TypeVar

import torch

from snn2chip.errors import InputError
from snn2chip.ir.types import IntArray
from snn2chip.trace import Trace, join_traces

Once = Callable[[Mapping[str, IntArray]], Trace]
Result = TypeVar("Result")


def side_by_side(once: Once, inputs: Mapping[str, IntArray]) -> Trace | None:
    """What `once(inputs)` gives for samples `[T, B, ...]`, in as many parts as there are threads.

    None where there is nothing to part, or where payloads are refused: all samples together say what is wrong.
    """
    batch = next(iter(inputs.values())).shape[1]
    threads = min(torch.get_num_threads(), batch)
    if threads <= 1:
        return None
    ends = [batch * i // threads for i in range(threads + 1)]
    parts = [{name: x[:, a:b] for name, x in inputs.items()} for a, b in pairwise(ends)]
    waiting = [_threads(torch.get_num_threads()).submit(once, part) for part in parts]
    if any(isinstance(future.exception(), InputError) for future in waiting):
        return None
    return join_traces([future.result() for future in waiting])


def by_one(work: Callable[[], Result]) -> Result:
    """`work()` by one thread, in which the libraries use no others."""
    threads = torch.get_num_threads()
    return work() if threads <= 1 else _threads(threads).submit(work).result()


def _alone() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread takes the process's number at its first question, and keeps it


@lru_cache(maxsize=8)
def _threads(number: int) -> ThreadPoolExecutor:
    """Threads in which PyTorch and its libraries use one thread."""
    pool = ThreadPoolExecutor(number, thread_name_prefix="snn2chip-samples", initializer=_alone)
    start = Barrier(number)
    for future in [pool.submit(start.wait) for _ in range(number)]:
        future.result()
    torch.set_num_threads(number)  # each thread has its own number; this is what threads of the user's begin with
    return pool


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_threads.cache_clear)
