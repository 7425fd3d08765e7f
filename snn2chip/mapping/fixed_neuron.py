"""What fits the registers of a fixed leaky integrate-and-fire pipeline (Loihi 1).

The potential is compared strictly with a threshold mantissa shifted left, and currents arrive as multiples of
2^align. A soma fits when its threshold is `2^align * m + 1`, or when every potential is a multiple of 2^align (gain,
bias and start are, the leak is 4096 and what a spike takes off too). A soma without leak may be stated in units 2^align
times as fine, which changes none of its spikes: both forms are tried.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, V_MAX, IntArray
from snn2chip.mapping.target import Target

Misfit = tuple[str, str]
"""What does not fit, and what to do."""


def register_misfits(soma: Soma, exponent: int, target: Target) -> list[Misfit]:
    """What of a soma no form of its registers can hold; empty if one does.

    `exponent` is the largest of its synapses' weight exponents (one less where the weights have both signs, since
    those mantissas are even).
    """
    grid = 1 << target.neuron.current_align_bits.value
    forms = [1, grid] if _unrounded(soma) else [1]
    tried = [list(_misfits(soma, form, exponent, target)) for form in forms]
    return min(tried, key=len)


def form_of(soma: Soma, exponent: int, target: Target) -> int:
    """The factor by which the soma's units are refined so that it fits (1 if neither form does)."""
    grid = 1 << target.neuron.current_align_bits.value
    forms = (1, grid) if _unrounded(soma) else (1,)
    fits = [form for form in forms if not list(_misfits(soma, form, exponent, target))]
    return fits[0] if fits else 1


def _unrounded(soma: Soma) -> bool:
    """Whether nothing is rounded in the soma, so that finer units change nothing but the scale."""
    return soma.syn_leak is None and bool((soma.leak == LEAK_ONE).all()) and not soma.gain_shift.any()


def _misfits(soma: Soma, form: int, exponent: int, target: Target) -> Iterator[Misfit]:
    neuron = target.neuron
    grid = 1 << neuron.current_align_bits.value
    gain = int(soma.gain.max()) * form
    uniform = bool((soma.gain == soma.gain.flat[0]).all()) and not soma.gain_shift.any()
    if not uniform or gain < grid or gain & (gain - 1):
        yield (
            f"its current is scaled by {_span(soma.gain)} / 2^{_span(soma.gain_shift)}, but it arrives as {grid} times "
            "a power of two per weight and nothing scales it",
            "choose units so that the gain is a power of two, the same for all channels (a unit per layer)",
        )
    else:
        highest = exponent + (gain // grid).bit_length() - 1
        room = target.weights.exponent_max.value
        if highest > room:
            yield f"its weights need an exponent of {highest}, at most {room} is there", "choose a smaller gain"
    yield from _threshold(soma, form, grid, target)
    if bad := _unfit_bias(soma.bias * form, neuron.bias_bits.value, neuron.bias_exponent_max.value):
        yield (
            f"bias {bad} is no {neuron.bias_bits.value}-bit number times 2^0..{neuron.bias_exponent_max.value}",
            "round the bias to what the register holds before it is quantized",
        )
    if int(np.abs(soma.v_init).max()) * form > V_MAX:
        yield f"v_init {_span(soma.v_init)} does not fit in units of 1/{form}", "choose coarser units"
    if soma.v_min is not None and not _power_floor(soma.v_min * form):
        yield (
            f"v_min {_span(soma.v_min)}: the floor is one number -(2^k) + 1 for all neurons",
            "leave the floor out, or round it",
        )


def _threshold(soma: Soma, form: int, grid: int, target: Target) -> Iterator[Misfit]:
    if soma.theta is None or soma.fire != "levels":
        return
    theta = soma.theta * form
    if needs_grid(soma, form, grid) and not _on_grid(soma, form, grid):
        yield (
            f"theta {_span(soma.theta)}: a strict compare in units of {grid} needs {grid}m + 1, or that every "
            "potential is a multiple",
            f"make gain, bias, v_init and (with a soft reset) theta multiples of {grid}, with leak 4096",
        )
        return
    mantissa = -(-theta // grid) - 1
    top = (1 << target.neuron.threshold_bits.value) - 1
    if int(mantissa.min()) < 0 or int(mantissa.max()) > top:
        yield f"theta {_span(soma.theta)} is outside of what the threshold register holds", "keep it above 0"


def needs_grid(soma: Soma, form: int, grid: int) -> bool:
    """Whether the strict compare is exact only while every potential is a multiple of `grid`."""
    return soma.theta is not None and soma.fire == "levels" and bool(((soma.theta * form - 1) % grid).any())


def _on_grid(soma: Soma, form: int, grid: int) -> bool:
    """Whether every potential that does not saturate is a multiple of `grid`."""
    assert soma.theta is not None
    parts = [soma.gain, soma.bias, soma.v_init]
    parts += [soma.theta] if soma.reset == "subtract" else []
    parts += [] if soma.v_min is None else [soma.v_min]
    return _unrounded(soma) and all(not (part * form % grid).any() for part in parts)


def _unfit_bias(bias: IntArray, bits: int, exponents: int) -> int | None:
    """A bias that is no signed mantissa of `bits` times a power of two up to `exponents`, or None."""
    fits = np.zeros(bias.shape, dtype=bool)
    for e in range(exponents + 1):
        mantissa = bias >> e
        fits |= (mantissa << e == bias) & (mantissa >= -(1 << (bits - 1))) & (mantissa < 1 << (bits - 1))
    return None if fits.all() else int(bias[~fits].flat[0])


def _power_floor(floor: IntArray) -> bool:
    size = 1 - int(floor.flat[0])
    return bool((floor == floor.flat[0]).all()) and size > 0 and size & (size - 1) == 0


def _span(values: IntArray) -> str:
    lo, hi = int(values.min()), int(values.max())
    return str(lo) if lo == hi else f"{lo}..{hi}"
