"""Sums over squares of payloads that stay bytes."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import numpy as np

from snn2chip_backends.torch.passes.memory import i8, inlined
from snn2chip_backends.torch.passes.moves import add_into, fill


@inlined
def pool(d):
    """Sums over f x f of int8 `[n, h*f, w*f, c]`: addresses in and out, n, h, w, c, f; they fit int8."""
    n, h, w, c, f = d[2], d[3], d[4], d[5], d[6]
    length = w * f * c
    rows = np.empty(length, np.int8)
    for i in range(n * h):
        fill(rows, i8(d[0] + i * f * length, length))
        for k in range(1, f):
            add_into(rows, i8(d[0] + (i * f + k) * length, length))
        for x in range(w):
            out = i8(d[1] + (i * w + x) * c, c)
            fill(out, rows[x * f * c : (x * f + 1) * c])
            for k in range(1, f):
                add_into(out, rows[(x * f + k) * c : (x * f + k + 1) * c])
