"""Random float neurons whose numbers are exact in binary."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn2chip.ir.layers import FloatSoma

KINDS = ("levels", "levels", "levels", "one", "ladder", "excess", "wide", "current")


def random_soma(rng: np.random.Generator, steps: int, channels: int, *, one: bool = False) -> FloatSoma:
    """Counts of levels with every reset, ladders, excess with leaks beyond their register; scalars, `[C]`, `[T, C]`.

    `one`: payloads of one level.
    """

    def field(values: Any, *, per_step: bool = False) -> Tensor:
        shape: tuple[int, ...] = ((), (channels,))[int(rng.integers(2))]
        shape = (steps, channels) if per_step and rng.random() < 0.2 else shape
        return torch.as_tensor(np.asarray(rng.choice(values, shape)), dtype=torch.float64)

    theta = field([0.5, 1.5, 3.0, 6.0])
    given: dict[str, Any] = {"theta": theta, "unit": theta if theta.dim() < 2 else 1.0, "steps": steps}
    if rng.random() < 0.3:
        given["bias"] = field([-0.5, 0.25, 1.0], per_step=True)
    if rng.random() < 0.3:
        given["gain"] = field([0.5, 1.0, -1.0, 2.0], per_step=True)
    kind = (
        str(rng.choice(["levels", "levels", "levels", "one", "ladder", "excess", "wide", "current"]))
        if not one
        else "one"
    )
    if kind == "ladder":
        bars = np.sort(rng.integers(-2, 12, (int(rng.integers(1, 4)), channels)) / 4, axis=0)
        return FloatSoma(**given, fire="ladder", reset="drop", levels=len(bars), ladder=torch.as_tensor(bars))
    if rng.random() < 0.3:
        given["v_init"] = field([0.25, -0.5, 0.5])
    leak = field([1.0, 0.5, 0.75, 1.25], per_step=True)
    if kind in ("excess", "wide"):
        leak = field([9.0, 0.5, -16.0, 1.0], per_step=True) if kind == "wide" else leak
        if kind == "excess" and rng.random() < 0.5:
            given |= {"out_max": int(rng.integers(1, 8)), "out_rounding": str(rng.choice(["half-up", "half-even"]))}
            given["unit"] = 0.25
        else:
            given["unit"] = 1.0
        return FloatSoma(**given, fire="excess", reset="clamp", leak=leak)
    if kind == "current":
        given |= {"syn_leak": field([0.5, 0.25])}
        return FloatSoma(**given, leak=leak, reset=str(rng.choice(["subtract", "zero"])))
    levels = 1 if kind == "one" else int(rng.integers(2, 5))
    reset = str(rng.choice(["subtract", "subtract", "zero", "drop", "value", "subtract-delayed"]))
    if reset == "value":
        given["v_reset"] = field([0.25, 0.0, -0.5])
    if rng.random() < 0.2:
        given["v_min"] = field([-0.5, 0.0])
    if levels == 1 and rng.random() < 0.2:
        given["strict"] = True
    if rng.random() < 0.5 and reset != "subtract-delayed":
        given["window"] = torch.as_tensor(rng.integers(-1, 4, (steps, steps)) / 2)
    return FloatSoma(**given, levels=levels, reset=reset, leak=leak)
