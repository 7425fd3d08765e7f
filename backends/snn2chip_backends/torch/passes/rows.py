"""Products of a few rows of payloads with a matrix, by their events: what is 0 costs next to nothing.

    current[r, m] = sum over n of payload[r, n] * w[n, m],   the matrix stored column by column of the synapse

in 32-bit integers, which the proven bound of the synapse has to fit.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import numpy as np

from snn2chip_backends.torch import layout as at
from snn2chip_backends.torch.passes.memory import i8, i16, i32, i64, inlined
from snn2chip_backends.torch.passes.moves import clear

TOGETHER = 4


@inlined
def _events(row, which, size):
    """Positions and values of the payloads other than 0; how many."""
    found = 0
    for n in range(row.size):
        p = np.int32(row[n])
        which[found], size[found] = n, p
        found += 1 if p != 0 else 0
    return found


@inlined
def _events_of_bytes(row, words, which, size):
    """The same, eight bytes at a time where all of them are 0."""
    found = 0
    for k in range(words.size):
        if words[k] != 0:
            for n in range(8 * k, 8 * k + 8):
                p = np.int32(row[n])
                which[found], size[found] = n, p
                found += 1 if p != 0 else 0
    for n in range(8 * words.size, row.size):
        p = np.int32(row[n])
        which[found], size[found] = n, p
        found += 1 if p != 0 else 0
    return found


@inlined
def _add_four(out, a, b, c, d, p, q, r, s):
    for m in range(out.size):
        out[m] += np.int32(a[m]) * p + np.int32(b[m]) * q + np.int32(c[m]) * r + np.int32(d[m]) * s


@inlined
def _add_one(out, a, p):
    for m in range(out.size):
        out[m] += np.int32(a[m]) * p


@inlined
def _sum_four(out, a, b, c, d):
    for m in range(out.size):
        out[m] += np.int32(a[m]) + np.int32(b[m]) + np.int32(c[m]) + np.int32(d[m])


@inlined
def _row(out, w, which, size, found, binary):
    """One row of currents from the events of one row of payloads."""
    clear(out)
    width = out.size
    whole = found - found % TOGETHER
    for k in range(0, whole, TOGETHER):
        a, b, c, d = which[k] * width, which[k + 1] * width, which[k + 2] * width, which[k + 3] * width
        if binary:
            _sum_four(out, w[a : a + width], w[b : b + width], w[c : c + width], w[d : d + width])
        else:
            first, second = w[a : a + width], w[b : b + width]
            third, fourth = w[c : c + width], w[d : d + width]
            _add_four(out, first, second, third, fourth, size[k], size[k + 1], size[k + 2], size[k + 3])
    for k in range(whole, found):
        a = which[k] * width
        _add_one(out, w[a : a + width], size[k])


@inlined
def few_rows(d):
    """Currents int32 `[rows, width]` of payloads `[rows, length]` that lie `step` values apart."""
    rows, length, width = d[at.ROWS], d[at.ROW_LENGTH], d[at.WIDTH]
    which, size = np.empty(length + 1, np.int64), np.empty(length + 1, np.int32)
    shift = np.int32(d[at.EXPONENT])
    code, binary = d[at.PAYLOAD_CODE], d[at.BINARY] != 0
    for r in range(rows):
        address = d[at.PAYLOAD] + r * d[at.ROW_STEP]
        if code == at.INT8:
            found = _events_of_bytes(i8(address, length), i64(address, length // 8), which, size)
        elif code == at.INT16:
            found = _events(i16(address, length), which, size)
        else:
            found = _events(i32(address, length), which, size)
        out = i32(d[at.CURRENT] + 4 * r * width, width)
        if d[at.WEIGHT_CODE] == at.INT8:
            _row(out, i8(d[at.WEIGHT], length * width), which, size, found, binary)
        else:
            _row(out, i16(d[at.WEIGHT], length * width), which, size, found, binary)
        if shift:
            for m in range(width):
                out[m] <<= shift
