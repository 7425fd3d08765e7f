"""Which random programs a property test runs: a few hundred, or the range of seeds that a long run names."""

from __future__ import annotations

import os

from snn2chip.errors import InputError

ENV = "SNN2CHIP_SEEDS"


def seeds(count: int) -> range:
    """Return `range(count)`, or the range `first:stop` of the environment variable SNN2CHIP_SEEDS.

    Raises InputError for anything but two whole numbers 0 <= first < stop.
    """
    text = os.environ.get(ENV, "")
    if not text:
        return range(count)
    first, _, stop = text.partition(":")
    if not (first.isdecimal() and stop.isdecimal() and int(first) < int(stop)):
        raise InputError(f"{ENV}={text!r}: expected two whole numbers, first:stop")
    return range(int(first), int(stop))
