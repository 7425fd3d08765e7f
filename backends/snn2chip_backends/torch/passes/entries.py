"""The compiled form of all passes: a tape that plays them, made on import or read back from disk.

numba looks at a function's own bytecode and closure to find it again on disk, not at what it calls. So the tape closes
over a digest of this folder: after any change it is compiled anew.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import hashlib
from pathlib import Path

from numba import types

from snn2chip_backends.torch import layout
from snn2chip_backends.torch.passes.inputs import take_frames
from snn2chip_backends.torch.passes.memory import compiled
from snn2chip_backends.torch.passes.pool import pool
from snn2chip_backends.torch.passes.rows import few_rows
from snn2chip_backends.torch.passes.soma import run
from snn2chip_backends.torch.passes.sums import add_up


def _digest() -> int:
    """A number that changes with any line of the passes."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    try:
        text = b"\0".join(file.read_bytes() for file in (*files, Path(layout.__file__)))
    except OSError:  # inside an archive
        text = b""
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "little")


def _entry(digest):
    def tape(rows):
        """One pass after the other, each described by a row."""
        for i in range(len(rows) if digest else 0):
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

    return compiled(tape, types.int64[:, ::1])


tape = _entry(_digest())
