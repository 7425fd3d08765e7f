"""The rules of the soma's parameters: ranges, shapes, legal combinations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from snn2chip.ir.soma import FIRES, LEGAL_RESETS, PER_CHANNEL, PER_STEP, RANGES, RESETS, Soma
from snn2chip.ir.types import NEVER, V_MAX

MAX_NEURONS = 1 << 31
OPTIONAL = ("theta", "syn_leak", "v_min")


def shape_breaches(shape: tuple[int, ...]) -> Iterator[str]:
    """What is wrong with the shape of a population or an input."""
    if not shape or min(shape) < 1 or int(np.prod(shape, dtype=object)) > MAX_NEURONS:
        yield f"shape must have at least one axis and only positive sizes, got {shape}"


def soma_breaches(soma: Soma, steps: int) -> Iterator[str]:
    """Everything about one soma that the contract forbids."""
    if bad_shape := list(shape_breaches(soma.shape)):
        yield from bad_shape
        return
    if soma.fire not in FIRES:
        yield f"fire must be one of {', '.join(FIRES)}, got {soma.fire!r}"
        return
    if soma.reset not in RESETS:
        yield f"reset must be one of {', '.join(RESETS)}, got {soma.reset!r}"
        return
    absent = [f for f in (*PER_STEP, *PER_CHANNEL) if f not in OPTIONAL and getattr(soma, f) is None]
    if absent:
        yield f"{', '.join(absent)} must have a value"
        return
    if soma.reset not in LEGAL_RESETS[soma.fire]:
        yield f"fire={soma.fire!r} goes with reset {' or '.join(LEGAL_RESETS[soma.fire])}, got {soma.reset!r}"
    yield from _shapes(soma, steps)
    yield from _ranges(soma)
    yield from _theta(soma)
    yield from _table_and_window(soma, steps)
    if not 0 <= soma.delta_shift <= (23 if soma.fire == "delta" else 0):
        yield f"delta_shift must be 0..23 with fire='delta' and 0 without, got {soma.delta_shift}"
    if soma.reset == "drop" and soma.fire != "none":
        if (soma.v_init != 0).any():
            yield "reset='drop' needs v_init = 0; put the shift into bias, every step"
        if soma.v_min is not None and (soma.v_min > 0).any():
            yield "reset='drop' has no state, so v_min must be <= 0"


def _shapes(soma: Soma, steps: int) -> Iterator[str]:
    for field in (*PER_STEP, *PER_CHANNEL):
        value = getattr(soma, field)
        if value is None:
            continue
        if field == "theta" and soma.ladder:
            what = "[levels, C or 1]"
            rows: tuple[int, ...] = (int(soma.levels.max()),)
        else:
            rows = (1, steps) if field in PER_STEP else (1,)
            what = "[T or 1, C or 1]" if field in PER_STEP else "[1, C or 1] (never per step)"
        if (
            value.ndim == 0
            or value.shape[0] not in rows
            or value.shape[1:]
            not in (
                (1,),
                (soma.channels,),
                soma.shape,
            )
        ):
            yield (
                f"{field} has shape {value.shape}; expected {what} with T={steps}, C={soma.channels}, "
                f"or per neuron [.., {', '.join(map(str, soma.shape))}]"
            )


def _ranges(soma: Soma) -> Iterator[str]:
    for field, (lo, hi) in RANGES.items():
        value = getattr(soma, field)
        if value is None or value.size == 0:
            continue
        low, high = int(value.min()), int(value.max())
        if low < lo or high > hi:
            bad = low if low < lo else high
            yield f"{field} = {bad} is outside {lo}..{hi}"
    if not 0 < soma.payload_bits <= 24:
        yield f"payload_bits must be 1..24, got {soma.payload_bits}"
    if not 0 <= soma.window_shift <= 30:
        yield f"window_shift must be 0..30, got {soma.window_shift}"


def _theta(soma: Soma) -> Iterator[str]:
    if soma.fire not in ("levels", "excess", "delta"):
        return
    theta = soma.theta
    if theta is None:
        yield f"fire={soma.fire!r} needs theta"
        return
    if soma.reset in ("subtract", "clamp") and (theta < 1).any():
        yield f"theta must be >= 1 with reset={soma.reset!r}, got {int(theta.min())}"
    if soma.fire == "delta" and theta.size and not 1 <= int(theta.min()) <= int(theta.max()) <= V_MAX:
        yield f"theta must be 1..{V_MAX} with fire='delta', got {int(theta.min())}..{int(theta.max())}"
    if soma.ladder:
        if soma.fire != "levels" or soma.reset != "drop":
            yield "a ladder of thresholds goes with fire='levels' and reset='drop'"
        elif (np.diff(theta, axis=0) < 0).any():
            yield "a ladder must not decrease from one level to the next"
        return
    if soma.fire == "levels" and theta.size and soma.levels.size:
        real = np.where(theta >= NEVER, 0, theta)
        highest = int(real.max()) * int(soma.levels.max())
        with suppress(ValueError):  # shapes that do not fit are reported on their own
            highest = int((np.broadcast_arrays(real, soma.levels)[0] * soma.levels).max())
        if highest > V_MAX:
            yield f"levels * theta = {highest} is beyond the largest potential {V_MAX}"


def _table_and_window(soma: Soma, steps: int) -> Iterator[str]:
    if (soma.fire == "table") != (soma.table is not None):
        yield "fire='table' and a table of 256 entries belong together"
    if soma.table is not None:
        if soma.table.shape != (256,):
            yield f"table must have 256 entries, got shape {soma.table.shape}"
        elif abs(soma.table).max() > V_MAX:
            yield f"table entries must fit ±{V_MAX}"
        if not 0 <= soma.table_shift <= 23 or abs(soma.table_offset) > V_MAX:
            yield f"table_shift must be 0..23 and |table_offset| <= {V_MAX}"
    if soma.window is not None:
        if soma.window.shape != (steps, steps):
            yield f"window must be [T, T] with T={steps}, got shape {soma.window.shape}"
        elif abs(soma.window).max() > (1 << 15) - 1:
            yield "window entries must be signed 16 bit"
