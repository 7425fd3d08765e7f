"""Units of a soma: one weight LSB per channel is `delta`, one LSB of the potential is `mu`.

    mu = delta / 2^(f + n)     f: fraction bits of the window, n: per channel, gain = 2^n or gain_shift = -n
    theta = round(theta/mu)    bias = round(b/delta * rowsum(window) * 2^n) ..    v_init = floor(theta/2) or round

f and n are the largest for which mixed current and potential stay inside 24 bits with spare room on the
calibration data. A read-out has one `mu` for all channels: gain[c] / 2^gain_shift = delta[c] / mu.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.errors import QuantizeError, UnsupportedError
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX
from snn2chip.quantize.spec import FloatArray, QuantRecord, half_up, record
from snn2chip.quantize.weights import array

MAX_FRACTION = 14
MIN_WINDOW_BITS = 4
FIRES = ("levels", "relay", "none")
RESETS = ("subtract", "zero", "drop")


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


def _rows(value: Any) -> FloatArray:
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
    potential: FloatArray,
    current: FloatArray,
    static: FloatArray,
    spare_bits: int,
) -> LoweredSoma:
    """Lower one float neuron whose current has the unit `delta [C]` and the linear maps' bias `bias [C]`.

    `potential` and `current` (mixed) are the largest magnitudes per channel, in float; `static` bounds the integer
    current from weights and payload ranges alone. Raises UnsupportedError
    for a rule that has no lowering yet and QuantizeError where no legal integer exists.
    """
    f = layer.soma
    bad = [
        text
        for text, broken in (
            (f"fire={f.fire!r} (known: {', '.join(FIRES)})", f.fire not in FIRES),
            (f"reset={f.reset!r} (known: {', '.join(RESETS)})", f.reset not in RESETS and f.fire != "none"),
            ("a gain other than 1 (merged membrane norm)", bool((array(f.gain) != 1.0).any())),
            ("a theta that changes from step to step", f.theta.dim() == 2 and f.theta.shape[0] > 1),
        )
        if broken
    ]
    if bad:
        raise UnsupportedError([f"{layer.label}: no integer lowering for {text}" for text in bad])
    if f.fire == "relay":
        return _relay(layer, name, shape, delta, bias, current)
    limit = float(V_MAX) / 2**spare_bits
    window, wbits = _window(layer, np.minimum(current / delta, static), limit)
    theta = np.broadcast_to(array(f.theta).ravel(), delta.shape) if f.fire == "levels" else np.zeros_like(delta)
    extra = np.abs(array(f.bias)).max(0) if f.bias.dim() == 2 else np.abs(array(f.bias))
    reach = np.maximum.reduce([potential, current, f.levels * np.abs(theta), np.broadcast_to(extra, delta.shape)])
    # a channel whose weights are (nearly) zero: any unit does, as long as theta and bias fit their registers
    delta = np.maximum(delta, reach / (limit * 2.0 ** (14 - wbits)))
    fine = np.clip(_bits(limit, reach / (delta / 2.0**wbits)), -15, max(0, MAX_FRACTION - wbits))
    mu = delta / 2.0 ** (wbits + fine)
    sums = np.ones((1, 1)) if window is None else window.sum(1, keepdims=True) / 2.0**wbits
    whole = (bias / mu)[None] * sums + _rows(f.bias) / mu
    if window is None and whole.shape[0] > 1 and (whole == whole[0]).all():
        whole = whole[:1]
    ints: dict[str, Any] = {
        "leak": half_up(_rows(f.leak) * 4096),
        "bias": half_up(whole),
        "gain": np.where(fine > 0, 1 << np.maximum(fine, 0), 1),
        "gain_shift": np.maximum(-fine, 0),
    }
    records = [
        record(name, layer.path, "mu", unit="current", source=mu, integer=1, lsb=mu),
        record(name, layer.path, "leak", unit="1/4096", source=_rows(f.leak), integer=ints["leak"], lsb=1 / 4096),
        record(
            name, layer.path, "bias", unit="mu", source=whole * mu, integer=ints["bias"], lsb=mu, floor=_floor(theta)
        ),
    ]
    if window is not None:
        ints["window"] = window
        records.append(
            record(
                name, layer.path, "window", unit=f"2^-{wbits}", source=array(f.window), integer=window, lsb=2.0**-wbits
            )
        )
    if f.fire == "levels":
        ints["theta"] = half_up(theta / mu)
        records.append(record(name, layer.path, "theta", unit="mu", source=theta, integer=ints["theta"], lsb=mu))
        if (ints["theta"] < 1).any() and f.reset == "subtract":
            raise QuantizeError(f"{layer.label}: theta rounds to 0 in units of the potential; use more weight bits")
    v_init = np.broadcast_to(array(f.v_init).ravel(), delta.shape)
    if f.v_init_rule == "half-theta" and f.fire == "levels":
        ints["v_init"] = ints["theta"] // 2
    else:
        ints["v_init"] = half_up(v_init / mu)
    records.append(
        record(
            name, layer.path, "v_init", unit="mu", source=v_init, integer=ints["v_init"], lsb=mu, floor=_floor(theta)
        )
    )
    _fits(layer, ints, f.levels)
    if f.reset == "drop" and f.fire == "levels":  # stateless: the shift goes into the bias of every step
        ints["bias"] = ints["bias"] + ints.pop("v_init")
    soma = Soma(
        name,
        shape,
        levels=f.levels,
        fire=f.fire,
        reset=f.reset,
        layer=layer.path,
        out_max=f.levels if f.fire == "levels" else None,
        **ints,
    )
    return LoweredSoma(soma=soma, unit=array(f.unit).ravel(), mu=mu, records=tuple(records))


def _floor(theta: FloatArray) -> float:
    """Errors of quantities much smaller than a threshold count relative to 1/64 of it."""
    return float(np.abs(theta).max()) / 64 if theta.size else 0.0


def _fits(layer: NeuronLayer, ints: dict[str, Any], levels: int) -> None:
    bad = [
        f"{k} = {int(np.abs(v).max())}" for k, v in ints.items() if k in ("bias", "v_init") and np.abs(v).max() > V_MAX
    ]
    if "theta" in ints and int(ints["theta"].max()) * levels > V_MAX:
        bad.append(f"levels*theta = {int(ints['theta'].max()) * levels}")
    if np.abs(ints["leak"]).max() > 32767:
        bad.append(f"leak = {int(np.abs(ints['leak']).max())}/4096")
    if bad:
        raise QuantizeError([f"{layer.label}: {text} does not fit its register" for text in bad])


def _window(layer: NeuronLayer, reach: FloatArray, limit: float) -> tuple[Any, int]:
    if layer.soma.window is None:
        return None, 0
    omega = array(layer.soma.window)
    bits = int(min(_bits(limit, reach).min(), _bits(32767.0, np.abs(omega).max()), MAX_FRACTION - 2))
    if bits < MIN_WINDOW_BITS:
        raise QuantizeError(
            f"{layer.label}: only {bits} fraction bits are left for the temporal window inside 24 bits; "
            "use fewer weight bits or a smaller payload in the layer before"
        )
    return half_up(omega * 2.0**bits), bits


def _relay(
    layer: NeuronLayer, name: str, shape: tuple[int, ...], delta: FloatArray, bias: FloatArray, current: FloatArray
) -> LoweredSoma:
    """A relay passes its integer current on exactly; one payload unit is worth `delta`."""
    if (current / delta).max() > V_MAX:
        raise QuantizeError(f"{layer.label}: the relayed current does not fit 24 bits")
    ints = half_up(bias / delta)
    top = int(2 ** np.ceil(np.log2(max(float((current / delta).max()) * 2, 2)))) - 1
    soma = Soma(name, shape, fire="relay", reset="drop", bias=ints, out_max=min(top, V_MAX), layer=layer.path)
    unit = delta if not (delta == delta[0]).all() else delta[:1]
    note = record(name, layer.path, "bias", unit="delta", source=bias, integer=ints, lsb=delta)
    return LoweredSoma(soma=soma, unit=unit, mu=delta, records=(note,))


def lower_readout(
    *, name: str, path: str, shape: tuple[int, ...], delta: FloatArray, bias: FloatArray, reach: FloatArray, last: bool
) -> LoweredSoma:
    """The non-firing soma that sums (or with `last` only keeps) the output's current in ONE unit for all classes."""
    limit = float(V_MAX) / 2 * (1 - 2.0**-8)  # room for the rounding of every step
    top = float(reach.max()) or 1.0
    mu = max(top / limit, float(delta.max()) * 2.0**-MAX_FRACTION)
    shift = int(np.clip(np.floor(np.log2(32767.0 * mu / float(delta.max()))), 0, 15))
    gain = half_up(delta / mu * 2.0**shift)
    ints = half_up(bias / mu)
    soma = Soma(name, shape, fire="none", gain=gain, gain_shift=shift, bias=ints, leak=0 if last else 4096, layer=path)
    records = (
        record(name, path, "gain", unit=f"delta/mu/2^{shift}", source=delta / mu, integer=gain, lsb=2.0**-shift),
        record(name, path, "bias", unit="mu", source=bias, integer=ints, lsb=mu, floor=top / 64),
    )
    return LoweredSoma(soma=soma, unit=np.array([mu]), mu=np.full(delta.shape, mu), records=records)
