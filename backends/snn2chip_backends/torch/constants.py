"""Soma parameters as the engine wants them: plain numbers where uniform, device tensors where not, per step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray

Value = int | Tensor


class Rows:
    """One parameter over the steps of a sample.

    `at(t)` broadcasts against `[B, *shape]`, `at(None)` against `[T, B, *shape]`. Uniform parameters are
    plain ints (`number` is the int if one number holds everywhere and always), unless `tensors` asks otherwise.
    """

    def __init__(
        self, soma: Soma, stored: IntArray, dtype: torch.dtype, device: torch.device, *, tensors: bool = False
    ) -> None:
        uniform = bool((stored == stored.flat[0]).all())
        self.number = int(stored.flat[0]) if uniform else None
        rows = stored[:1] if uniform else stored
        self.per_step = len(rows) > 1
        self._rows: list[Value] = []
        for row in rows:
            same = bool((row == row.flat[0]).all())
            if same and not tensors:
                self._rows.append(int(row.flat[0]))
            else:
                self._rows.append(on_device(soma.spread(row.reshape(-1)[:1] if same else row), dtype, device))
        self._all = self._rows[0]
        if self.per_step:
            spread = np.stack([soma.spread(row) for row in rows])
            self._all = on_device(spread[:, None], dtype, device)

    def at(self, t: int | None) -> Value:
        """Value at step `t`, or of all steps at once for None."""
        if t is None:
            return self._all
        return self._rows[t if self.per_step else 0]


def on_device(array: IntArray, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A copy of a NumPy array as a tensor of `dtype` on `device`."""
    return torch.from_numpy(np.array(array)).to(device=device, dtype=dtype)
