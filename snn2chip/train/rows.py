"""Raw training samples by row numbers: in memory in the smallest type, or read when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from torch import Tensor

from snn2chip.errors import InputError

if TYPE_CHECKING:
    from snn2chip.data import Samples

IN_MEMORY = 2**34
"""Samples of more numbers than this (one byte each at best) are read row by row, when their data set can."""


@attrs.frozen(eq=False)
class Rows:
    """Samples that are read row by row: `rows[indices]` gives `[n, ...]`, `len(rows)` their number."""

    samples: Samples

    def __len__(self) -> int:
        return self.samples.total

    def __getitem__(self, chosen: Tensor) -> Tensor:
        assert self.samples.rows is not None
        parts = [self.samples.rows(int(i), int(i) + 1) for i in chosen]
        return torch.from_numpy(np.concatenate(parts))


def rows_of(samples: Samples) -> Tensor | Rows:
    """Return the raw values of `samples` `[N, ...]`: a tensor, or `Rows` when they are too many for memory.

    Raises InputError for samples with several inputs.
    """
    if len(samples.shapes) != 1:
        raise InputError(f"{samples.name}: expected one input, got {', '.join(samples.shapes)}")
    (shape,) = samples.shapes.values()
    if samples.rows is not None and samples.total * int(np.prod(shape)) > IN_MEMORY:
        return Rows(samples)
    parts = [torch.from_numpy(compact(next(iter(arrays.values())))) for arrays, _ in samples.blocks(4096)]
    kind = max((part.dtype for part in parts), key=lambda dtype: dtype.itemsize)
    return torch.cat([part.to(kind) for part in parts])


def compact(x: Any) -> Any:
    """Return the same raw values in the smallest type torch knows, writable as it wants: pixels take one byte."""
    if x.dtype.kind not in "iu" or not x.size:
        return np.require(x, dtype=np.float32 if x.dtype.kind == "f" else None, requirements=("C", "W"))
    low, high = int(x.min()), int(x.max())
    kinds = (np.uint8, np.int16, np.int32, np.int64)
    kind = next(k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max)
    return np.require(x, dtype=kind, requirements=("C", "W"))
