"""Weights to integers: `w[o] * unit[c] ~ delta[o] * integer[o]`, one delta per output channel.

    binary    delta = mean |w|,  sign(w), sign(0) = +1
    ternary   entries with |w| > 0.7 mean |w| keep their sign, delta = mean |w| over them
    intN      integer = round(w / delta) in +-(2^(N-1) - 1), delta by search on the squared error; weights that are
              whole multiples of one step, of few enough bits, keep that step and are exact
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
from snn2chip.ir.linear_layers import AffineLayer, WeightParts
from snn2chip.ir.space_layers import ResampleLayer
from snn2chip.quantize.spec import FloatArray, QuantRecord, half_up

ROWS_AT_ONCE = 1 << 18
"""Weights worked on at a time."""
IntValues = NDArray[np.integer[Any]]
GLANCE, WHOLE = 16, 2.0**-15
"""Weights of a channel looked at first, and how far from whole float32 multiples of a step may be."""


def array(value: Any) -> FloatArray:
    """A tensor or number as float64."""
    return np.asarray(value.detach().cpu().double().numpy() if hasattr(value, "detach") else value, dtype=np.float64)


@attrs.frozen(kw_only=True, eq=False)
class IntWeights:
    """Integer weights of one synapse and the float value `delta [O]` of one unit of its current.

    `exact`: the weights keep this grid, on which they were trained, or `fitted` on calibration samples. `target` are
    the float weights (payload units folded in).
    """

    values: IntValues
    delta: FloatArray
    bits: int | str
    exact: bool
    target: FloatArray
    exponent: int = 0
    fitted: bool = False

    @property
    def error(self) -> float:
        """Relative root-mean-square error of the weights."""
        off, norm = 0.0, 0.0
        for part in _parts(self.target):
            got = rows(self.delta[part], self.target) * self.values[part] * 2.0**self.exponent
            got -= self.target[part]
            off, norm = off + float(np.vdot(got, got)), norm + float(np.vdot(self.target[part], self.target[part]))
        return float(np.sqrt(off / norm)) if norm else 0.0

    def record(self, node: str, path: str) -> QuantRecord:
        """The decision as a record of the synapse `node`."""
        kept = ", fitted" if self.fitted else ", as trained" if self.exact else ""
        return QuantRecord(
            node=node,
            layer=path,
            field=f"weight ({self.bits}{kept})",
            unit="delta",
            source=[float(self.target.min()), float(self.target.max())],
            integer=[int(self.values.min()), int(self.values.max())],
            error=self.error,
        )


def rows(per_output: FloatArray, like: Any) -> FloatArray:
    """`[O]` ready to broadcast against weights `[O, ...]`."""
    return per_output.reshape(per_output.shape + (1,) * (like.ndim - per_output.ndim))


def folded(layer: Layer, unit: FloatArray, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> FloatArray:
    """Float weights with the source's payload unit (scalar or `[C]`) multiplied in.

    linear `[O, N]`, conv2d `[O, C/g, kh, kw]`, scale, sum-pool and resampling `[C]`.
    """
    if isinstance(layer, (ScaleLayer, SumPoolLayer, ResampleLayer)):
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
        values = parts.integers.cpu().numpy().astype(np.int8)
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
        width = width_of(mode)
        delta = unit_of(flat, top(width))
        steps = whole_steps(flat, top(width))
        delta = np.where(steps > 0, steps, delta)
        values = _round(target, delta, top(width))
    delta = np.where(delta > 0, delta, (float(delta.max()) or 1.0) * (2.0**-20 if width == 1 else 1.0))  # ±1 is never 0
    return IntWeights(values=values.astype(np.int8, copy=False), delta=delta, bits=width, exact=False, target=target)


def fitted_weights(parts: WeightParts, target: FloatArray, unit: FloatArray, mode: str) -> IntWeights:
    """Integers chosen on calibration samples; `parts.scale` is for payloads worth 1, or of every channel's own unit."""
    delta = array(parts.scale) * (float(unit.reshape(())) if unit.size == 1 else 1.0)
    values = parts.integers.cpu().numpy().astype(np.int8)
    return IntWeights(values=values, delta=delta, bits=width_of(mode), exact=True, target=target, fitted=True)


def _keeps(kind: str, mode: str) -> bool:
    """Whether weights trained as `kind` stay as they are in `mode`."""
    width = {"binary": 1, "ternary": 2, "keep": 99}
    have, asked = (width.get(k) or int(k[3:]) for k in (kind, mode))
    return have <= asked


def _round(target: FloatArray, delta: FloatArray, largest: int) -> IntValues:
    safe = rows(np.where(delta > 0, delta, 1.0), target)
    values = np.empty(target.shape, dtype=np.int8)
    for part in _parts(target):
        values[part] = np.clip(half_up(target[part] / safe[part]), -largest, largest)
    return values


def _parts(target: FloatArray) -> list[slice]:
    """Rows taken at a time, so that the copies made of large weights stay small."""
    step = max(1, ROWS_AT_ONCE // max(1, target[:1].size))
    return [slice(i, i + step) for i in range(0, len(target), step)]


def whole_steps(flat: FloatArray, most: int) -> FloatArray:
    """Largest step of which all weights `[O, K]` of a channel are whole multiples up to `most`; 0 where none is."""
    largest = np.abs(flat).max(1)
    ratio = flat / np.where(largest > 0, largest, 1.0)[:, None]
    counts = np.arange(1, most + 1)
    few = ratio[:, :: max(1, flat.shape[1] // GLANCE)][:, :, None] * counts
    maybe = (np.abs(few - np.rint(few)) < WHOLE).all(1) & (largest > 0)[:, None]
    steps = np.zeros(len(flat))
    for row in np.flatnonzero(maybe.any(1)):
        for count in counts[maybe[row]]:
            scaled = ratio[row] * count
            if (np.abs(scaled - np.rint(scaled)) < WHOLE).all():
                steps[row] = largest[row] / count
                break
    return steps


def unit_of(flat: FloatArray, most: int) -> FloatArray:
    """Per-channel delta with the smallest squared error among shrunk versions of max|w| / most."""
    largest = np.abs(flat).max(1) / most
    if most > 31:
        return largest
    coarse = np.linspace(0.2, 1.0, 17)
    share = _best_share(flat, largest, most, np.broadcast_to(coarse[:, None], (17, len(flat))))
    for reach in (0.04, 0.0075):
        share = _best_share(flat, largest, most, share + np.linspace(-reach, reach, 9)[:, None])
    return largest * share


def _best_share(flat: FloatArray, largest: FloatArray, most: int, shares: FloatArray) -> FloatArray:
    """Of `shares [K, O]` of the largest step, the one with the smallest squared error in every row."""
    rows32 = flat.astype(np.float32) / np.where(largest > 0, largest, 1.0).astype(np.float32)[:, None]
    best, best_error = shares[0], np.full(len(flat), np.inf)
    for share in shares:
        step = share.astype(np.float32)[:, None]
        off = np.rint(rows32 / step)
        np.clip(off, -most, most, out=off)
        off *= step
        off -= rows32
        error = np.einsum("ij,ij->i", off, off)
        better = error < best_error
        best, best_error = np.where(better, share, best), np.where(better, error, best_error)
    return best


def top(bits: int | str) -> int:
    """Largest integer that weights of this width use."""
    return 1 if bits in (1, "ternary") else (1 << (int(bits) - 1)) - 1


def width_of(mode: str) -> int | str:
    """Width of float weights in a mode: 1, "ternary" or 2..8 bits."""
    names: dict[str, int | str] = {"keep": 8, "binary": 1, "ternary": "ternary"}
    return names[mode] if mode in names else int(mode[3:])


def on_grid(weights: IntWeights, delta: FloatArray) -> IntWeights:
    """The same float weights at the same width, rounded to another unit `delta [O]`."""
    if weights.bits == 1:
        values: IntValues = np.where(weights.target >= 0, np.int8(1), np.int8(-1))
    else:
        values = _round(weights.target, delta, top(weights.bits))
    return attrs.evolve(weights, values=values, delta=delta)


def errors(weights: IntWeights) -> FloatArray:
    """Errors of the weights `[O, K]` of every output channel, in float units."""
    off = rows(weights.delta * 2.0**weights.exponent, weights.values) * weights.values
    off -= weights.target
    flat: FloatArray = off.reshape(len(off), -1)
    return flat
