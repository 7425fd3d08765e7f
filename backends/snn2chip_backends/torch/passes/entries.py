"""The compiled form of all passes: a tape that plays them, made on import or read back from disk."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from pathlib import Path

from numba import types

from snn2chip.machine_code import kept
from snn2chip_backends.torch import layout
from snn2chip_backends.torch.passes.inputs import take_frames
from snn2chip_backends.torch.passes.pool import pool
from snn2chip_backends.torch.passes.rows import few_rows
from snn2chip_backends.torch.passes.soma import run
from snn2chip_backends.torch.passes.sums import add_up


def _tape(rows):
    """One pass after the other, each described by a row."""
    for i in range(len(rows)):
        d = rows[i]
        op = d[layout.OP]
        if op == layout.SOMA:
            run(d)
        elif op == layout.FEW_ROWS:
            few_rows(d)
        elif op == layout.INPUT:
            take_frames(d)
        elif op == layout.SUM:
            add_up(d)
        else:
            pool(d)


tape = kept(_tape, types.void(types.int64[:, ::1]), sources=(str(Path(__file__).parent), layout.__file__))
