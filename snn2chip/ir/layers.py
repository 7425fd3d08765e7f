"""Float layers: what a traced network is made of before it becomes integers.

A `Layer` is one float operation with a unique name, the user's own layer path and typed fields.
`FloatSoma` is the float twin of the integer `Soma`: every trainable neuron describes itself as one.

    step t:  m = leak[t]*v + gain[t]*I[t] + bias[t]     (I mixed by `window` first, if there is one)
             fire = levels: s = clip(floor(m/theta), 0, levels)     excess: s = max(m - theta, 0)     none: s = 0
             relay: s = m
             reset = subtract: v = m - s*theta (levels)    clamp: v = min(m, theta)    zero: v = 0 where s > 0    drop: v = 0
             payload value = s * unit
"""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64) if not isinstance(value, Tensor) else value.detach()


@attrs.frozen(kw_only=True, eq=False)
class FloatSoma:
    """A neuron population in float: what a trained neuron module hands to the quantizer.

    Tensors are scalars, `[C]` (per channel) or `[T, C or 1]` (per step); `window` is `[T, T]`.
    `unit` is the float value of one payload unit (theta for a multi-level neuron, 1 for excess).
    """

    steps: int
    theta: Tensor = attrs.field(converter=_tensor)
    unit: Tensor = attrs.field(converter=_tensor)
    levels: int = 1
    fire: str = "levels"
    reset: str = "subtract"
    leak: Tensor = attrs.field(default=1.0, converter=_tensor)
    gain: Tensor = attrs.field(default=1.0, converter=_tensor)
    bias: Tensor = attrs.field(default=0.0, converter=_tensor)
    v_init: Tensor = attrs.field(default=0.0, converter=_tensor)
    v_init_rule: str = attrs.field(default="round")  # "half-theta": floor(theta_int / 2), exact for QCFS
    window: Tensor | None = None
    method: str = ""
