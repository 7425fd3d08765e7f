"""Lowering of a neuron that was trained on the integer soma: its integers are taken, nothing is calibrated.

    x = rshift(a*gain, gain_shift) + bias[t]        a sign that a norm left in the float soma's gain goes to `gain`

That is right only if one unit of the program's current is worth what it was in training; `mismatch` says why not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.errors import QuantizeError
from snn2chip.ir.dynamics import trunc4096
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.soma import Soma
from snn2chip.ir.trained import TrainedSoma
from snn2chip.ir.types import V_MAX
from snn2chip.quantize.feeds import Feed
from snn2chip.quantize.spec import FloatArray, record
from snn2chip.quantize.units import LoweredSoma
from snn2chip.quantize.weights import array

TOLERANCE = 1e-5


def mismatch(layer: NeuronLayer, feed: Feed) -> str:
    """Why the trained integers of a neuron do not hold for its current in the program; empty if they do."""
    trained = layer.soma.trained
    assert trained is not None
    gain = array(layer.soma.gain)
    if gain.ndim > 1:
        return "its gain differs from step to step"
    want = array(trained.delta)
    have = np.broadcast_to(feed.delta * np.abs(gain), want.shape)
    off = (want > 0) & (np.abs(have - want) > TOLERANCE * want)
    if not off.any():
        return ""
    c = int(off.argmax())
    return (
        f"one unit of its current is worth {have[c]:.6g} in channel {c}, in training {want[c]:.6g}: weights, input or "
        "norm are other than trained"
    )


def lower_trained(
    layer: NeuronLayer, feed: Feed, *, name: str, shape: tuple[int, ...], current: FloatArray
) -> LoweredSoma:
    """The soma of the neuron's own integers; `current [C]` is its largest (mixed) float current on calibration data.

    Raises QuantizeError if a current does not fit 24 bits on that data.
    """
    f, trained = layer.soma, layer.soma.trained
    assert trained is not None
    gain, shift, bias = (array(v).astype(np.int64) for v in (trained.gain, trained.gain_shift, trained.bias))
    window = None if trained.window is None else array(trained.window).astype(np.int64)
    _check_room(layer, trained, feed, current)
    sign = np.where(np.broadcast_to(array(f.gain), gain.shape) < 0, -1, 1)
    v_init = trained.v_init
    if trained.reset == "drop" and v_init:  # kept for one step only: the bias of the first step
        rows = np.array(np.broadcast_to(bias, (f.steps, bias.shape[1])))
        rows[0] += trunc4096(np.array(v_init), np.array(trained.leak))
        bias, v_init = rows, 0
    ints: dict[str, Any] = {"gain": gain * sign, "gain_shift": shift, "bias": bias, "window": window}
    soma = Soma(
        name,
        shape,
        theta=trained.theta,
        levels=trained.levels,
        leak=trained.leak,
        v_init=v_init,
        reset=trained.reset,
        out_max=trained.levels,
        ladder=False,
        layer=layer.path,
        **ints,
    )
    lsb, delta = trained.lsb, array(trained.delta)
    notes = (
        record(name, layer.path, "theta (as trained)", unit="mu", source=f.theta, integer=trained.theta, lsb=lsb),
        record(name, layer.path, "leak (as trained)", unit="1/4096", source=f.leak, integer=trained.leak, lsb=1 / 4096),
        record(
            name,
            layer.path,
            "gain (as trained)",
            unit="delta/mu",
            source=delta / (trained.kappa * lsb),
            integer=gain / 2.0**shift,
            lsb=1.0,
        ),
        record(name, layer.path, "bias (as trained)", unit="mu", source=bias * lsb, integer=bias, lsb=lsb),
    )
    return LoweredSoma(soma=soma, unit=array(f.unit).ravel(), mu=np.full(delta.shape, lsb), records=notes)


def _check_room(layer: NeuronLayer, trained: TrainedSoma, feed: Feed, current: FloatArray) -> None:
    delta, shift = array(trained.delta), np.abs(array(trained.shift))
    sums = 1.0 if trained.window is None else float(np.abs(array(trained.window)).sum(1).max())
    seen = (current * trained.kappa + shift * sums) / np.where(delta > 0, delta, np.inf)
    reach = float(np.minimum(seen, feed.static * sums).max())
    if reach > V_MAX:
        raise QuantizeError(
            f"{layer.label}: its mixed current reaches {reach:.4g} on the calibration data, 24 bits hold {V_MAX}; "
            "train with a smaller window_bits"
        )
