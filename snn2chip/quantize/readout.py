"""The read-out: a non-firing soma whose potential is in ONE unit for all classes, so that argmax compares.

gain[c] / 2^gain_shift = delta[c] / mu,   v(t) = v(t-1) + rshift(a * gain, gain_shift) + round(b/mu)
"""

from __future__ import annotations

import attrs
import numpy as np

from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, V_MAX
from snn2chip.quantize.spec import FloatArray, half_up, record
from snn2chip.quantize.units import MAX_FRACTION, LoweredSoma, Reach, integrated, rows_of
from snn2chip.quantize.weights import array


def lower_readout(
    *,
    name: str,
    path: str,
    shape: tuple[int, ...],
    delta: FloatArray,
    bias: FloatArray,
    reach: FloatArray,
    last: bool,
    spare: int = 0,
    whole: int = 0,
    idle: tuple[int, int] | None = None,
) -> LoweredSoma:
    """The non-firing soma that sums (or with `last` only keeps) the output's current in ONE unit for all classes.

    `idle = (T, S)`: it reads the first T of S steps and keeps its potential through the others.
    `spare`: bits left free besides the usual one; `whole`: the whole gain to take (the unit is then delta/gain), 0 to
    choose one.
    """
    limit = float(V_MAX) / 2 ** (1 + spare) * (1 - 2.0**-8)  # room for the rounding of every step
    top = max(float(reach.max()), float(np.abs(bias).max())) or 1.0  # a bias may be larger than what it leaves
    mu = max(top / limit, float(delta.max()) * 2.0**-MAX_FRACTION)
    least = float(delta.min())
    if mu <= least and (np.abs(delta / least - np.rint(delta / least)) < 2.0**-40).all():  # whole multiples stay exact
        mu = least * 2.0 ** -np.floor(np.log2(least / mu))
    shift = int(np.clip(np.floor(np.log2(32767.0 * mu / float(delta.max()))), 0, 15))
    if whole:
        mu, shift = float(delta[0]) / whole, 0
    gain = half_up(delta / mu * 2.0**shift)
    ints = half_up(bias / mu)
    leak = 0 if last else LEAK_ONE
    soma = Soma(name, shape, fire="none", gain=gain, gain_shift=shift, bias=ints, leak=leak, layer=path)
    if idle is not None:
        reads = (np.arange(idle[1]) < idle[0]).astype(np.int64)[:, None]
        kept = reads * leak + (1 - reads) * LEAK_ONE
        soma = attrs.evolve(soma, gain=reads * soma.gain, bias=reads * soma.bias, leak=kept)
    records = (
        record(name, path, "gain", unit=f"delta/mu/2^{shift}", source=delta / mu, integer=gain, lsb=2.0**-shift),
        record(name, path, "bias", unit="mu", source=bias, integer=ints, lsb=mu, floor=top / 64),
    )
    return LoweredSoma(soma=soma, unit=np.array([mu]), mu=np.full(delta.shape, mu), records=records)


def lower_membrane(
    layer: NeuronLayer,
    *,
    name: str,
    shape: tuple[int, ...],
    delta: FloatArray,
    bias: FloatArray,
    reach: Reach,
    spare: int = 0,
) -> LoweredSoma:
    """The non-firing soma of a (leaky) integrator whose potential is read after the last step, one unit for all.

    v(t) = leak*v(t-1) + gain*a + bias, with syn_leak on the current first, as in the float neuron.
    """
    f = layer.soma
    size = np.abs(np.broadcast_to(rows_of(f.gain)[0], delta.shape)) * delta
    total = rows_of(f.gain) * bias[None] * integrated(f) + rows_of(f.bias)
    v_init = np.broadcast_to(array(f.v_init).ravel(), delta.shape)
    driven = np.abs(rows_of(f.gain)[0]) * reach.current
    limit = float(V_MAX) / 2 ** (1 + spare) * (1 - 2.0**-8)
    top = max(float(np.max(v)) for v in (reach.potential, driven, np.abs(total), np.abs(v_init))) or 1.0
    mu = max(top / limit, float(size.max()) * 2.0**-MAX_FRACTION) or 1.0
    shift = int(np.clip(np.floor(np.log2(32767.0 * mu / max(float(size.max()), mu * 2.0**-14))), 0, 15))
    ratio = np.broadcast_to(rows_of(f.gain)[0], delta.shape) * delta / mu
    gain, ints, leak = half_up(ratio * 2.0**shift), half_up(total / mu), half_up(rows_of(f.leak) * LEAK_ONE)
    soma = Soma(
        name,
        shape,
        fire="none",
        gain=gain,
        gain_shift=shift,
        bias=ints if len(ints) > 1 else ints[0],
        leak=leak,
        syn_leak=None if f.syn_leak is None else half_up(rows_of(f.syn_leak) * LEAK_ONE),
        v_init=half_up(v_init / mu),
        layer=layer.path,
    )
    records = (
        record(name, layer.path, "gain", unit=f"delta/mu/2^{shift}", source=ratio, integer=gain, lsb=2.0**-shift),
        record(name, layer.path, "leak", unit="1/4096", source=rows_of(f.leak), integer=leak, lsb=1 / LEAK_ONE),
        record(name, layer.path, "bias", unit="mu", source=total, integer=ints, lsb=mu, floor=top / 64),
    )
    return LoweredSoma(soma=soma, unit=np.array([mu]), mu=np.full(delta.shape, mu), records=records)
