"""Weights to integers: `w[o] * unit[c] ~ delta[o] * integer[o]`, one delta per output channel.

    binary    delta = mean |w|,  sign(w), sign(0) = +1
    ternary   entries with |w| > 0.7 mean |w| keep their sign, delta = mean |w| over them
    intN      integer = round(w / delta) in +-(2^(N-1) - 1), delta by search on the squared error
Weights that were trained binary, ternary or few-bit (`parts`) are exact: only delta is a float.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from snn2chip.errors import QuantizeError
from snn2chip.ir.channel_layers import ScaleLayer, SumPoolLayer
from snn2chip.ir.layers import Layer
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.quantize.spec import FloatArray, half_up

IntValues = NDArray[np.int64]


def array(value: Any) -> FloatArray:
    """A tensor or number as float64."""
    return np.asarray(value.detach().cpu().double().numpy() if hasattr(value, "detach") else value, dtype=np.float64)


@attrs.frozen(kw_only=True, eq=False)
class IntWeights:
    """Integer weights of one synapse and the float value `delta [O]` of one unit of its current.

    `exact`: the weights were trained on this grid. `target` are the float weights (payload units folded in).
    """

    values: IntValues
    delta: FloatArray
    bits: int | str
    exact: bool
    target: FloatArray
    exponent: int = 0

    @property
    def error(self) -> float:
        """Relative root-mean-square error of the weights."""
        got = rows(self.delta, self.values) * self.values * 2.0**self.exponent
        norm = float(np.square(self.target).sum())
        return float(np.sqrt(np.square(got - self.target).sum() / norm)) if norm else 0.0


def rows(per_output: FloatArray, like: Any) -> FloatArray:
    """`[O]` ready to broadcast against weights `[O, ...]`."""
    return per_output.reshape(per_output.shape + (1,) * (like.ndim - per_output.ndim))


def folded(layer: Layer, unit: FloatArray, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> FloatArray:
    """Float weights with the source's payload unit (scalar or `[C]`) multiplied in.

    linear `[O, N]`, conv2d `[O, C/g, kh, kw]`, scale and sum-pool `[C]`.
    """
    if isinstance(layer, (ScaleLayer, SumPoolLayer)):
        return np.broadcast_to(array(layer.factor) * unit, (out_shape[0],)).astype(np.float64)
    assert isinstance(layer, AffineLayer)
    w = array(layer.weight)
    if unit.size == 1:
        return w * float(unit.reshape(()))
    if w.ndim == 2:
        return w * np.repeat(unit, int(np.prod(in_shape[1:])))[None]
    groups = getattr(layer, "groups", 1)
    per_group = unit.reshape(groups, 1, -1, 1, 1)
    return (w.reshape(groups, -1, *w.shape[1:]) * per_group).reshape(w.shape)


def quantize_weights(layer: Layer, target: FloatArray, unit: FloatArray, mode: str) -> IntWeights:
    """Integers for one layer's folded weights `target` in the given mode; raises QuantizeError for NaN or inf."""
    if not np.isfinite(target).all():
        raise QuantizeError(f"{layer.label}: weights contain NaN or infinity")
    parts = getattr(layer, "parts", None)
    if parts is not None and unit.size == 1 and _keeps(parts.kind, mode):
        values = parts.integers.cpu().numpy().astype(np.int64)
        delta = array(parts.scale) * float(unit.reshape(()))
        known: dict[str, int | str] = {"binary": 1, "ternary": "ternary"}
        bits = known.get(parts.kind) or int(parts.kind[3:])
        return IntWeights(values=values, delta=delta, bits=bits, exact=True, target=target)
    flat = target.reshape(len(target), -1)
    width: int | str
    if mode == "binary":
        delta = np.abs(flat).mean(1)
        values, width = np.where(target >= 0, 1, -1), 1
    elif mode == "ternary":
        keep = np.abs(flat) > 0.7 * np.abs(flat).mean(1, keepdims=True)
        delta = (np.abs(flat) * keep).sum(1) / np.maximum(keep.sum(1), 1)
        values, width = (np.sign(flat) * keep).reshape(target.shape), "ternary"
    else:
        width = 8 if mode == "keep" else int(mode[3:])
        top = (1 << (width - 1)) - 1
        delta = _search(flat, top)
        values = _round(target, delta, top)
    delta = np.where(delta > 0, delta, 1.0)
    return IntWeights(values=values.astype(np.int64), delta=delta, bits=width, exact=False, target=target)


def _keeps(kind: str, mode: str) -> bool:
    """Whether weights trained as `kind` stay as they are in `mode`."""
    width = {"binary": 1, "ternary": 2, "keep": 99}
    have, asked = (width.get(k) or int(k[3:]) for k in (kind, mode))
    return have <= asked


def _round(target: FloatArray, delta: FloatArray, top: int) -> IntValues:
    safe = np.where(delta > 0, delta, 1.0)
    return np.clip(half_up(target / rows(safe, target)), -top, top)


def _search(flat: FloatArray, top: int) -> FloatArray:
    """Per-channel delta with the smallest squared error among shrunk versions of max|w| / top."""
    largest = np.abs(flat).max(1) / top
    if top > 31:
        return largest
    best, best_error = largest, np.full(len(flat), np.inf)
    for shrink in np.linspace(0.4, 1.0, 61):
        delta = largest * shrink
        error = np.square(_round(flat, delta, top) * delta[:, None] - flat).sum(1)
        better = error < best_error
        best, best_error = np.where(better, delta, best), np.where(better, error, best_error)
    return best


def regrid(weights: IntWeights, delta: FloatArray) -> IntWeights:
    """The same float weights on another current unit: 8-bit integers times a power of two."""
    ratio = np.abs(weights.target).reshape(len(weights.target), -1).max(1) / delta
    exponent = max(0, int(np.ceil(np.log2(max(float(ratio.max()), 1e-30) / 127.0))))
    step = delta * 2.0**exponent
    values = np.clip(half_up(weights.target / rows(step, weights.target)), -127, 127)
    return attrs.evolve(weights, values=values, delta=delta, bits=8, exact=False, exponent=exponent)


def common_delta(branches: list[IntWeights], *, shift: int) -> FloatArray:
    """The current unit `[C]` that several branches into one soma share.

    The first exactly trained branch sets it, `shift` bits below its own unit, so that it keeps its integers
    (times 2^shift); without one, the largest float weight of all branches has 8 bits.
    """
    exact = next((b for b in branches if b.exact), None)
    if exact is not None:
        return exact.delta / 2.0**shift
    largest = np.max([np.abs(b.target).reshape(len(b.target), -1).max(1) for b in branches], axis=0)
    return np.where(largest > 0, largest, 1.0) / 127.0
