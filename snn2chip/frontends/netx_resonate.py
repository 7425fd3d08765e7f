"""Resonate-and-fire neurons, whose state turns in the complex plane, as a loop of somas of the integer machine.

    re' = clip( T(cos * re) - T(sin * im) + (a_re << state_exp) )        T(z) = sign(z) * (|z| >> bits)
    im' = clip( T(sin * re) + T(cos * im) + (a_im << state_exp) )        clip: to +-(2^23 - 1)
    RF     sends 1 where re' >= theta, im' >= 0 and im < 0
    RF_IZ  sends 1 where im' >= theta; then re' := 0, im' := theta - 1

A soma that drops its potential and relays it sends `re'`; one step later relays of its positive and of its negative
part scale it back in. With |factor| = g * 2^e, g odd, k = bits - e and h = 2^(k-1), a relay with bias -h, out_gain g
and out_shift k, whose rounding adds h, sends for every p

    ((p - h) * g + h) >> k  =  (p * g >> k) - (g - 1) / 2

which out_min = -(g - 1)/2 cuts at the value of p = 0. So it sends max(floor(p * |factor| / 2^bits), 0) less a
constant, and the difference of the relays of p and of -p is T(|factor| * p). Source of the equations: lava-nc 0.10.0
(rf, rf_iz, fixed point), lava-dl 0.6.0 (the complex blocks of netx).
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.errors import ParameterError
from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX, whole

Nodes = list[Soma | Synapse | Product]
Edges = list[tuple[str, str, int]]


@attrs.frozen(kw_only=True)
class Resonance:
    """Integers of a resonate-and-fire neuron: its turn per step `(cos, sin) / 2^bits`, threshold and fraction bits.

    `izhikevich` takes the imaginary part as the potential (RF_IZ). Raises ParameterError with everything out of range.
    """

    cos: int = attrs.field(converter=whole)
    sin: int = attrs.field(converter=whole)
    theta: int = attrs.field(converter=whole)
    bits: int = attrs.field(default=12, converter=whole)
    state_exp: int = attrs.field(default=6, converter=whole)
    izhikevich: bool = False

    def __attrs_post_init__(self) -> None:
        bad = []
        if not 1 <= self.bits <= 15:
            bad.append(f"bits must be 1..15, got {self.bits}")
        elif max(abs(self.cos), abs(self.sin)) > 1 << self.bits:
            bad.append(f"cos and sin must be within +-{1 << self.bits}, got {self.cos} and {self.sin}")
        if not self.cos and not self.sin:
            bad.append("cos and sin are both 0: nothing turns")
        if not 0 <= self.state_exp <= 16:
            bad.append(f"state_exp must be 0..16, got {self.state_exp}")
        if not int(self.izhikevich) <= self.theta <= V_MAX:
            bad.append(f"theta must be {int(self.izhikevich)}..{V_MAX}, got {self.theta}")
        if bad:
            raise ParameterError(bad)

    @classmethod
    def of(
        cls,
        *,
        period: float,
        alpha: float,
        vth: float,
        state_exp: int = 6,
        decay_bits: int = 12,
        izhikevich: bool = False,
    ) -> Resonance:
        """The integers of Lava's own parameters: `(1 - alpha) * exp(2 pi i / period)` and `vth`, cut toward zero."""
        if not (np.isfinite([period, alpha, vth]).all() and period != 0):
            raise ParameterError(f"period, alpha and vth must be numbers, got {period}, {alpha} and {vth}")
        one, turn = (1 - alpha) * (1 << decay_bits), 2 * np.pi / period
        return cls(
            cos=int(one * np.cos(turn)),
            sin=int(one * np.sin(turn)),
            theta=int(vth * (1 << state_exp)),
            bits=decay_bits,
            state_exp=state_exp,
            izhikevich=izhikevich,
        )


def resonate(
    name: str,
    source: str,
    shape: tuple[int, ...],
    neuron: Resonance,
    *,
    weight_real: Any = None,
    weight_imag: Any = None,
    layer: str = "",
) -> tuple[Nodes, Edges]:
    """Nodes and edges of a layer of resonate-and-fire neurons; the soma `name` sends its spikes.

    `source` feeds both parts, through `weight_real` and `weight_imag` `[M, N]` (left out: one to one, as ComplexInput).
    The somas `name.re` and `name.im` send the state after each step; of RF_IZ `name.kept` is the real part after the
    reset.
    """
    nodes: Nodes = []
    edges: Edges = []
    re, im = f"{name}.re", f"{name}.im"
    into: dict[str, list[str]] = {re: [], im: []}
    for part, weight in ((re, weight_real), (im, weight_imag)):
        kind, shaped = ("identity", None) if weight is None else ("linear", shape if len(shape) > 1 else None)
        nodes.append(Synapse(f"{part}.weight", kind, weight, exponent=neuron.state_exp, shape=shaped, layer=layer))
        edges.append((source, f"{part}.weight", 0))
        into[part].append(f"{part}.weight")
    kept = f"{name}.kept" if neuron.izhikevich else re
    for part, of in ((re, kept), (im, im)):
        nodes.append(Synapse(f"{part}.back", "identity", layer=layer))
        edges.append((of, f"{part}.back", 1))
    turns = ((re, "cos", re, neuron.cos), (im, "sin", re, -neuron.sin), (re, "sin", im, neuron.sin))
    for part, turn, to, factor in (*turns, (im, "cos", im, neuron.cos)):
        for sign, mark in ((1, "pos"), (-1, "neg")) if factor else ():
            relay = f"{part}.{turn}.{mark}"
            nodes.append(_scaled(relay, shape, sign, abs(factor), neuron.bits, layer))
            nodes.append(Synapse(f"{relay}.turned", "identity", sign if factor > 0 else -sign, layer=layer))
            edges += [(f"{part}.back", relay, 0), (relay, f"{relay}.turned", 0)]
            into[to].append(f"{relay}.turned")

    def add(soma: str, currents: list[str], **fields: Any) -> None:
        nodes.append(Soma(soma, shape, reset="drop", layer=layer, **fields))
        edges.extend((current, soma, 0) for current in currents)

    def say(*somas: str) -> list[str]:
        for soma in somas:
            nodes.append(Synapse(f"{soma}.said", "identity", layer=layer))
            edges.append((soma, f"{soma}.said", 0))
        return [f"{soma}.said" for soma in somas]

    add(re, into[re], fire="relay")
    if neuron.izhikevich:
        add(im, into[im], fire="relay", out_min=-V_MAX, out_max=neuron.theta - 1)
        add(f"{name}.below", into[im], gain=-1, theta=1 - neuron.theta)
        nodes.append(Product(f"{name}.unreset", layer=layer))
        edges += [(re, f"{name}.unreset", 0), (f"{name}.below", f"{name}.unreset", 0)]
        add(kept, [f"{name}.unreset"], fire="relay")
        add(name, into[im], theta=neuron.theta)
    else:
        add(im, into[im], fire="relay")
        add(f"{name}.high", into[re], theta=neuron.theta)
        add(f"{name}.now", into[im], theta=0)
        add(f"{name}.before", [f"{im}.back"], gain=-1, theta=1)
        add(name, say(f"{name}.high", f"{name}.now", f"{name}.before"), theta=3)
    return nodes, edges


def _scaled(name: str, shape: tuple[int, ...], sign: int, factor: int, bits: int, layer: str) -> Soma:
    """The relay of `max(floor(p * factor / 2^bits), 0)` less its value of 0, with `p = sign * current`."""
    even = min((factor & -factor).bit_length() - 1, bits)
    odd, shift = factor >> even, bits - even
    rest = (odd - 1) // 2 if shift else 0
    half = (1 << shift) >> 1
    return Soma(
        name,
        shape,
        fire="relay",
        reset="drop",
        gain=sign,
        bias=-half,
        out_gain=odd,
        out_shift=shift,
        out_min=-rest,
        layer=layer,
    )
