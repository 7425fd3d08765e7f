"""Units of a soma: one weight LSB per channel is `delta`, one LSB of the potential is `mu`.

    mu = delta / (kappa * 2^n)     kappa: scale of the window's integers, n: per channel, gain = 2^n or gain_shift = -n
    gain[t,c]: its largest magnitude per channel joins the unit, the rest is a ratio of 14 bits (a sign is exact)
    theta = round(theta/mu)    bias = round((gain * b * rowsum(window) + b_soma)/mu)    v_init = floor(theta/2) or round
    excess: payload unit lambda, out_gain / 2^out_shift = mu / lambda

kappa and n are the largest for which mixed current and potential stay inside 24 bits with spare room on the
calibration data.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import numpy as np

from snn2chip.errors import QuantizeError, UnsupportedError
from snn2chip.ir.layers import FloatSoma
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, V_MAX
from snn2chip.quantize.payload_steps import WIDE_BITS, best_step
from snn2chip.quantize.spec import FloatArray, QuantRecord, QuantSpec, half_up, record
from snn2chip.quantize.strict import strict_compare
from snn2chip.quantize.weights import array

MAX_FRACTION = 14
MIN_WINDOW_BITS = 4
RESETS = {
    "levels": ("subtract", "subtract-delayed", "zero", "value", "drop"),
    "excess": ("clamp", "zero", "drop"),
    "ladder": ("drop",),
    "none": ("subtract", "zero", "clamp", "drop"),
}


@attrs.frozen(kw_only=True, eq=False)
class Reach:
    """How far one soma reaches on calibration data, per channel, in float units.

    `potential` before the reset, `current` mixed by the window, `payload` the largest payload value of all
    channels, `payloads` some of them; `static` bounds the integer current from weights and payload ranges alone.
    """

    potential: FloatArray
    current: FloatArray
    static: FloatArray
    payload: float
    payloads: FloatArray = attrs.field(factory=lambda: np.zeros(0))


@attrs.frozen(kw_only=True, eq=False)
class LoweredSoma:
    """An integer soma, the float value `unit` (scalar or `[C]`) of one of its payload units, `mu [C]`, records."""

    soma: Soma
    unit: FloatArray
    mu: FloatArray
    records: tuple[QuantRecord, ...]


def _bits(limit: float, reach: FloatArray) -> Any:
    """Largest n with `reach * 2^n <= limit`."""
    return np.floor(np.log2(limit / np.maximum(reach, 1e-12))).astype(np.int64)


def rows_of(value: Any) -> FloatArray:
    """A scalar, `[C]` or `[T, C]` field as `[T or 1, C or 1]`."""
    v = array(value)
    return v.reshape(1, -1) if v.ndim < 2 else v


def lower_soma(
    layer: NeuronLayer,
    *,
    name: str,
    shape: tuple[int, ...],
    delta: FloatArray,
    bias: FloatArray,
    reach: Reach,
    spec: QuantSpec,
    spare: int = 0,
) -> LoweredSoma:
    """Lower one float neuron whose current has the unit `delta [C]` and the linear maps' bias `bias [C]`.

    Raises UnsupportedError for a rule that has no lowering yet and QuantizeError where no legal integer exists.
    """
    f = layer.soma
    _check(layer)
    limit = float(V_MAX) / 2 ** (spec.spare_bits + spare)
    live = delta > 0  # the unit of a channel whose gain is 0 is nothing; its integers are bounded all the same
    most = np.where(live, reach.current / np.where(live, delta, 1.0), reach.static)
    window, kappa = _window(layer, np.minimum(most, reach.static), limit)
    fires = f.fire in ("levels", "excess", "ladder")
    rows = rows_of(f.ladder if f.fire == "ladder" else f.theta) if fires else np.zeros((1, 1))
    theta = np.broadcast_to(rows, (rows.shape[0], len(delta)))
    gain = np.broadcast_to(rows_of(f.gain), (rows_of(f.gain).shape[0], len(delta)))
    size = np.abs(gain).max(0)
    size = np.where(size > 0, size, 1.0)
    levels = f.levels if f.fire in ("levels", "ladder") else 1
    times = f.levels if f.fire == "levels" else 1  # a ladder holds the multiples already
    sums = np.ones((1, 1)) if window is None else window.sum(1, keepdims=True) / kappa
    total = gain * bias[None] * sums * integrated(f) + rows_of(f.bias)
    driven = size * reach.current
    if f.reset == "drop":  # nothing kept: the scaled current is the potential without its bias
        driven = np.minimum(driven, reach.potential + np.abs(total).max(0))
    tops = [reach.potential, driven, times * np.abs(theta).max(0), np.abs(total).max(0)]
    tops += [] if f.v_reset is None else [np.abs(rows_of(f.v_reset)).max(0)]
    top = np.maximum.reduce([np.broadcast_to(t, delta.shape) for t in tops])
    # a channel whose weights are (nearly) zero: any unit does, as long as theta and bias fit their registers
    step = np.maximum(delta * size, top * kappa / (limit * 2.0**14))
    whole_gain = bool(np.isin(np.abs(gain / size), (0.0, 1.0)).all())
    fine = np.clip(
        _bits(limit, top / (step / kappa)), -15 if whole_gain else -1, max(0, MAX_FRACTION - int(np.log2(kappa)))
    )
    mu = step / (kappa * 2.0**fine)
    if len(total) > 1 and (total == total[0]).all():
        total = total[:1]
    ints: dict[str, Any] = {"leak": half_up(rows_of(f.leak) * LEAK_ONE), "bias": half_up(total / mu)}
    ints |= _gain(gain / size, fine, whole_gain)
    small = float(np.abs(theta).max()) / 64  # errors of much smaller quantities count relative to this
    note = partial(_note, name, layer.path)
    records = [
        note("mu", mu, 1, mu),
        note("leak", rows_of(f.leak), ints["leak"], 1 / LEAK_ONE),
        note("bias", total, ints["bias"], mu, floor=small),
    ]
    if window is not None:
        ints["window"] = window
        records.append(note("window", array(f.window), window, 1.0 / kappa))
    if f.fire == "ladder":
        ints |= _stateless_ladder(theta, total, mu)
        records.append(note("theta", theta - total, ints["theta"], mu, floor=small))
    elif fires:
        ints["theta"] = half_up(theta / mu)
        records.append(note("theta", theta, ints["theta"], mu))
    records += _kept(f, mu, ints, note)
    v_init = np.broadcast_to(array(f.v_init).ravel(), delta.shape)
    if f.fire == "levels" and f.levels == 1 and f.reset == "drop":  # nothing kept: all of it is one exact compare
        ints["theta"] = np.ceil((theta - total - v_init) / mu - 2.0**-20).astype(np.int64)
        ints["bias"], v_init = np.zeros((1, 1), dtype=np.int64), np.zeros(delta.shape)
    if f.fire == "ladder" and (v_init != 0).any():
        raise UnsupportedError(f"{layer.label}: a ladder with reset='drop' starts at 0; subtract v_init from it")
    half = f.v_init_rule == "half-theta" and f.fire == "levels" and not (f.reset == "drop" and f.levels == 1)
    ints["v_init"] = ints["theta"][:1] // 2 if half else half_up(v_init / mu)[None]
    if f.v_init_rule == "strict":  # m > theta on integers: the same neuron started one unit lower
        ints["v_init"] = ints["v_init"] - 1
    records.append(note("v_init", v_init, ints["v_init"], mu, floor=small))
    if f.fire == "none":
        unit = array(f.unit).ravel()
    else:
        scaled, unit = payload_scale(f, mu, reach, spec.payload_bits)
        ints |= scaled
        if f.fire == "excess":
            ratio = ints["out_gain"] / 2.0 ** ints["out_shift"]
            records.append(note("out_gain", mu / unit, ratio, 1.0))
            if f.out_max is not None and f.out_rounding != "half-up":  # differs from the machine on exact ties only
                records.append(
                    attrs.evolve(
                        note("mu", 0, 0, 1), field="payload rounding", source=f.out_rounding, integer="half-up"
                    )
                )
    if spec.strict or f.strict:
        ints |= strict_compare(f, ints)
    _fits(layer, ints, times)
    if f.reset == "drop" and f.fire not in ("none", "ladder"):  # stateless: the shift goes into the bias of every step
        ints["bias"] = ints["bias"] + ints.pop("v_init")
    ladder = f.fire == "ladder"
    fire = "levels" if ladder else f.fire
    soma = Soma(name, shape, levels=levels, fire=fire, reset=f.reset, layer=layer.path, ladder=ladder, **ints)
    return LoweredSoma(soma=soma, unit=unit, mu=mu, records=tuple(records))


def integrated(f: FloatSoma) -> FloatArray:
    """What a constant current has become at every step `[T, C or 1]`: 1, or the sum of syn_leak^k over k <= t."""
    if f.syn_leak is None:
        return np.ones((1, 1))
    powers = rows_of(f.syn_leak)[0][None] ** np.arange(f.steps)[:, None]
    return powers.cumsum(0)


def _kept(f: FloatSoma, mu: FloatArray, ints: dict[str, Any], note: Any) -> list[QuantRecord]:
    """Put the integers of a synaptic leak, a reset value and a floor of the potential into `ints`; their records."""
    records = []
    if f.syn_leak is not None:
        ints["syn_leak"] = half_up(rows_of(f.syn_leak) * LEAK_ONE)
        records.append(note("syn_leak", rows_of(f.syn_leak), ints["syn_leak"], 1 / LEAK_ONE))
    for field, value in (("v_reset", f.v_reset), ("v_min", f.v_min)):
        if value is not None:
            rows = np.broadcast_to(rows_of(value), (1, len(mu)))
            ints[field] = np.clip(half_up(rows / mu), -V_MAX, V_MAX)
            records.append(note(field, rows, ints[field], mu))
    return records


def lower_maximum(layer: NeuronLayer, *, name: str, shape: tuple[int, ...]) -> LoweredSoma:
    """The soma of a maximum pooling over binary spikes, whose current is their number: one spike if there is any."""
    soma = Soma(name, shape, theta=1, reset="drop", out_max=1, layer=layer.path)
    return LoweredSoma(soma=soma, unit=array(layer.soma.unit).ravel(), mu=np.ones(shape[:1] or (1,)), records=())


def _stateless_ladder(ladder: FloatArray, bias: FloatArray, mu: FloatArray) -> dict[str, Any]:
    """Thresholds of a stateless ladder: `m + b >= theta_k` on integers m is `m >= ceil((theta_k - b)/mu)`, exact.

    A bias that changes from step to step cannot move into the one ladder of all steps; it is rounded instead.
    """
    if len(bias) > 1:
        return {"theta": np.ceil(ladder / mu - 2.0**-20).astype(np.int64), "v_init": np.zeros((1, 1), dtype=np.int64)}
    theta = np.ceil((ladder - bias) / mu - 2.0**-20).astype(np.int64)  # float noise must not lift an exact tie
    zero = np.zeros((1, 1), dtype=np.int64)
    return {"theta": theta, "bias": zero, "v_init": zero}


def _check(layer: NeuronLayer) -> None:
    f = layer.soma
    resets = RESETS.get(f.fire, ())
    bad = [f"fire={f.fire!r} (known: {', '.join(RESETS)})"] if not resets else []
    if resets and f.reset not in resets:
        bad.append(f"fire={f.fire!r} with reset={f.reset!r} (known: {', '.join(resets)})")
    if bad:
        raise UnsupportedError([f"{layer.label}: no integer lowering for {text}" for text in bad])


def _note(node: str, path: str, field: str, source: Any, integer: Any, lsb: Any, *, floor: float = 0.0) -> QuantRecord:
    unit = {
        "leak": "1/4096",
        "syn_leak": "1/4096",
        "window": "fraction",
        "mu": "float",
        "out_gain": "mu per payload unit",
    }.get(field, "mu")
    return record(node, path, field, unit=unit, source=source, integer=integer, lsb=lsb, floor=floor)


def _gain(ratio: FloatArray, fine: Any, whole: bool) -> dict[str, Any]:
    """Gain and shift for `ratio [T or 1, C]` in -1..1 times `2^fine`; exact when every ratio is -1, 0 or 1."""
    if whole:
        return {"gain": half_up(ratio * 2.0 ** np.maximum(fine, 0)), "gain_shift": np.maximum(-fine, 0)}
    return {"gain": half_up(ratio * 2.0**MAX_FRACTION), "gain_shift": MAX_FRACTION - fine}


def payload_scale(f: FloatSoma, mu: FloatArray, reach: Reach, bits: int) -> tuple[dict[str, Any], FloatArray]:
    """Payload fields and the float value of one payload unit (scalar or `[C]`).

    levels: the count itself. excess: `out_gain / 2^out_shift = mu / unit`; a real payload without a declared
    step gets the one of `bits` that loses least (`payload_steps`).
    """
    if f.fire in ("levels", "ladder"):
        return {"out_max": f.levels}, array(f.unit).ravel()
    unit = array(f.unit).ravel()
    top = f.out_max
    if top is None:
        bits = WIDE_BITS if f.method == "empf-state" else bits
        top = (1 << bits) - 1
        unit = np.array([best_step(reach.payloads, reach.payload, bits)])
    ratio = mu / unit
    shift = int(np.clip(np.floor(np.log2(65535.0 / float(ratio.max()))), 0, 30))
    return {"out_gain": np.maximum(half_up(ratio * 2.0**shift), 1), "out_shift": shift, "out_max": top}, unit


def _fits(layer: NeuronLayer, ints: dict[str, Any], levels: int) -> None:
    bad = [
        f"{k} = {int(np.abs(v).max())}" for k, v in ints.items() if k in ("bias", "v_init") and np.abs(v).max() > V_MAX
    ]
    if "theta" in ints and int(np.abs(ints["theta"]).max()) * levels > V_MAX:
        bad.append(f"levels*theta = {int(np.abs(ints['theta']).max()) * levels}")
    if np.abs(ints["leak"]).max() > 32767:
        bad.append(f"leak = {int(np.abs(ints['leak']).max())}/4096")
    if bad:
        raise QuantizeError([f"{layer.label}: {text} does not fit its register" for text in bad])


def _window(layer: NeuronLayer, reach: FloatArray, limit: float) -> tuple[Any, float]:
    """Integer window and its unit kappa, `window ~ Omega * kappa`.

    Entries that are whole multiples of 1/k (an all-ones window, 1/T, the identity) are taken exactly. Else
    kappa need not be a power of two: theta, bias and v_init are rounded to its unit anyway. Of the scales
    within the upper half of the room that 24 bits leave, the one with the smallest relative error is taken.
    """
    if layer.soma.window is None:
        return None, 1.0
    omega = array(layer.soma.window)
    room = min(float((limit / np.maximum(reach, 1e-12)).min()), 32767.0 / float(np.abs(omega).max()), 2.0**12)
    whole = [k for k in range(1, 65) if k <= room and np.abs(omega * k - np.rint(omega * k)).max() < 1e-6]
    if whole:  # all entries are multiples of 1/k: exact at any scale
        return half_up(omega * whole[0]), float(whole[0])
    if room < 2.0**MIN_WINDOW_BITS:
        raise QuantizeError(
            f"{layer.label}: only {max(room, 1.0):.3g} steps are left for the temporal window inside 24 bits "
            f"({2**MIN_WINDOW_BITS} are needed); use fewer weight bits or a smaller payload in the layer before"
        )
    scales = np.concatenate(
        [2.0 ** np.arange(MIN_WINDOW_BITS, np.floor(np.log2(room)) + 1), np.linspace(room / 2, room, 4001)]
    )
    error = np.abs(half_up(scales[:, None, None] * omega) / scales[:, None, None] - omega)
    kappa = float(scales[np.argmin(np.square(error).sum((1, 2)))])
    return half_up(omega * kappa), kappa
