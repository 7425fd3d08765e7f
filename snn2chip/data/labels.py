"""Labels that can be right: classes are counted from 0, one for each output."""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.errors import InputError

MOST = 1 << 20
"""More classes than any network has: what lies beyond is a number of another kind."""


def check_labels(labels: Any, classes: int | None, *, name: str) -> None:
    """Raise InputError for labels `[N]` outside of 0 .. `classes` - 1 (None: not known yet)."""
    y = np.asarray(labels)
    if y.dtype.kind not in "iu":  # another shape or type is somebody else's complaint
        return
    top = MOST if classes is None else classes
    wrong = np.flatnonzero((y < 0) | (y >= top))
    if not len(wrong):
        return
    first, more = int(wrong[0]), f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    wanted = "classes are counted from 0" if classes is None else _wanted(classes)
    found = int(y.reshape(-1)[first])
    raise InputError(f"{name}: the label of sample {first} is {found}{more}; {wanted}, or leave the labels out")


def _wanted(classes: int) -> str:
    if classes == 1:
        return "with one output every label is 0"
    return f"{classes} outputs have the labels 0 to {classes - 1}"
