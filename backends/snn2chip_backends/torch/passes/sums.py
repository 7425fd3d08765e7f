"""What is counted of a run, added up over neurons."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import numpy as np

from snn2chip_backends.torch import layout as at
from snn2chip_backends.torch.passes.memory import i64, inlined


@inlined
def _sum(a):
    found = np.int64(0)
    for i in range(a.size):
        found += a[i]
    return found


@inlined
def _dot(a, b):
    found = np.int64(0)
    for i in range(a.size):
        found += a[i] * b[i]
    return found


@inlined
def add_up(d):
    """Result = sum of a[i] * b[i] over n neurons, b being 1 where there is no address."""
    n = d[at.SUM_LENGTH]
    if d[at.FACTORS]:
        d[at.RESULT] = _dot(i64(d[at.TERMS], n), i64(d[at.FACTORS], n))
    else:
        d[at.RESULT] = _sum(i64(d[at.TERMS], n))
