"""Thresholds of every kind of firing: the least potential that sends at least k, as an integer and in float."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn2chip.ir.layers import FloatSoma
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray

FloatArray = NDArray[np.float64]
Shape = tuple[int, ...]


def row(stored: Any, t: int, shape: Shape) -> FloatArray:
    """Step t of a scalar, `[C]` or `[T or 1, C or 1]` tensor, ready to go with `[B, *shape]`."""
    v: FloatArray = stored.detach().cpu().double().numpy()
    if v.ndim == 2:
        v = v[t if len(v) > 1 else 0]
    return v.reshape(-1, *(1,) * (len(shape) - 1)) if v.ndim else v


def integer_bar(soma: Soma, k: IntArray, t: int) -> IntArray:
    """The least integer potential that sends k `[B, *shape]` or more; for levels, ladders, excess and relays."""
    if soma.fire == "levels":
        if not soma.ladder:
            return k * soma.at("theta", t)
        assert soma.theta is not None
        rungs: IntArray = _pick(np.stack([np.broadcast_to(soma.spread(rung), soma.shape) for rung in soma.theta]), k)
        return rungs
    half = (np.int64(1) << soma.at("out_shift")) >> 1
    least = -((half - (k << soma.at("out_shift"))) // soma.at("out_gain"))
    return least + soma.at("theta", t) if soma.fire == "excess" else least


def float_bar(f: FloatSoma, shape: Shape, k: IntArray, t: int) -> FloatArray:
    """The float potential from which on k `[B, *shape]` or more is sent."""
    if f.fire == "ladder":
        assert f.ladder is not None
        rungs: FloatArray = _pick(np.stack([np.broadcast_to(row(rung, 0, shape), shape) for rung in f.ladder]), k)
        return rungs
    if f.fire == "levels":
        return k * row(f.theta, t, shape)
    half: FloatArray = (k - 0.5) * row(f.unit, t, shape)
    return half + row(f.theta, t, shape) if f.fire == "excess" else half


def _pick(rungs: Any, k: IntArray) -> Any:
    """Entry k-1 of `rungs [K, *shape]` for every neuron of `k [B, *shape]`."""
    return np.take_along_axis(rungs[:, None], (k - 1)[None], axis=0)[0]
