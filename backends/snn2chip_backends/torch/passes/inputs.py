"""Coded samples into payloads: checked, narrowed, split into digits, counted and brought into memory order at once."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import numpy as np

from snn2chip_backends.torch import layout as at
from snn2chip_backends.torch.passes.memory import i8, i64, inlined
from snn2chip_backends.torch.passes.moves import store


@inlined
def _reach(x, low, high):
    for i in range(x.size):
        low = min(low, x[i])
        high = max(high, x[i])
    return low, high


@inlined
def _narrow(row, x):
    for i in range(x.size):
        row[i] = np.int32(x[i])


@inlined
def _turn(row, x, channels, positions):
    """The same from `[C, positions]` to `[positions, C]`."""
    for c in range(channels):
        for p in range(positions):
            row[p * channels + c] = np.int32(x[c * positions + p])


@inlined
def _digit(out, row, shift):
    for i in range(out.size):
        out[i] = np.int8((row[i] >> shift) & np.int32(127))


@inlined
def _count(x, spikes):
    for i in range(x.size):
        spikes[i] += 1 if x[i] != 0 else 0


@inlined
def _measure(x, total):
    for i in range(x.size):
        total[i] += abs(x[i])


@inlined
def take_frames(d):
    """Frames int64 `[T or 1, B, C * positions]` into payloads `[B, T or 1, neurons]`, and their lowest and highest."""
    steps, batch, channels, positions = d[at.FRAMES], d[at.SAMPLES], d[at.CHANNELS], d[at.POSITIONS]
    n = channels * positions
    row = np.empty(n, np.int32)
    low, high = np.int64(0), np.int64(0)
    code = d[at.PAYLOAD_CODE]
    size = 1 if code == at.INT8 else (2 if code == at.INT16 else 4)
    spikes, total = i64(d[at.IN_SPIKES], n), i64(d[at.IN_TOTAL], n)
    for b in range(batch):
        for t in range(steps):
            x = i64(d[at.FRAME] + t * d[at.FRAME_STEP] + b * d[at.FRAME_SAMPLE], n)
            low, high = _reach(x, low, high)
            _count(x, spikes)
            if d[at.IN_TOTAL]:
                _measure(x, total)
            if channels > 1 and positions > 1:
                _turn(row, x, channels, positions)
            else:
                _narrow(row, x)
            at_row = (b * steps + t) * n
            store(d[at.PAYLOAD] + size * at_row, code, row)
            if d[at.DIGITS]:
                _digit(i8(d[at.DIGITS] + at_row, n), row, np.int32(0))
                _digit(i8(d[at.DIGITS + 1] + at_row, n), row, np.int32(7))
    d[at.LOW], d[at.HIGH] = low, high
    fired = np.int64(0)
    for i in range(n):
        fired += spikes[i]
    d[at.FIRED] = fired
