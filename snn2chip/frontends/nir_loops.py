"""What comes back to a neuron of a `.nir` file one step later: one linear map of its spikes, or a factor of each."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import torch

from snn2chip.frontends.nir_fields import shape_breaches
from snn2chip.frontends.nir_file import NirNode
from snn2chip.frontends.nir_layers import MAPS, delay_layer
from snn2chip.frontends.nir_neurons import Unfit
from snn2chip.ir.channel_layers import ScaleLayer
from snn2chip.ir.delay_layer import DelayLayer
from snn2chip.ir.layers import FloatSoma, IdentityLayer, Layer, Shape
from snn2chip.ir.linear_layers import AffineLayer

MAX_BIAS = 1 << 24
"""Numbers of a bias that starts one step late: one for every step and neuron."""


def feedback_of(
    neuron: NirNode, chain: Sequence[NirNode], shape: Shape, *, dt: float | None, steps: int
) -> AffineLayer | ScaleLayer:
    """The layer of the maps on the way back to `neuron`; a plain self loop is a factor of 1, never an N x N matrix.

    Raises Unfit where a map does not fit the neurons or several have no common form.
    """
    made: list[Layer] = []
    for node in chain:
        try:
            layer = delay_layer(node, node.name, dt=dt, steps=steps) if node.kind == "Delay" else _map(node, shape)
        except Unfit as error:
            texts = (f"what comes back to it through {node.label}: {text}" for text in error.texts)
            raise Unfit(*texts, refused=error.refused) from None
        if isinstance(layer, DelayLayer):
            if layer.delay != 1:
                raise Unfit(f"the loop is delayed by {layer.delay} steps; one has a form", refused=True)
        elif not isinstance(layer, IdentityLayer):
            made.append(layer)
    if not made:
        return ScaleLayer(name=f"{neuron.name}.back", path=neuron.name)
    (layer, *more) = made
    if more or not isinstance(layer, (AffineLayer, ScaleLayer)):
        raise Unfit("the loop has several maps or none with weights; one linear map has a form", refused=True)
    gives, bad = layer.out_shape([shape])
    if not bad and gives != shape:
        bad = [f"gives {list(gives)}, the neurons are {list(shape)}"]
    if bad:
        label = next(node.label for node in chain if node.name == layer.name)
        raise Unfit(*(f"what comes back to it through {label}: {text}" for text in bad))
    return layer


def _map(node: NirNode, shape: Shape) -> Layer:
    if bad := shape_breaches(node, shape):
        raise Unfit(*bad)
    return MAPS[node.kind](node, node.name, shape)


def late_bias(
    layer: AffineLayer | ScaleLayer, soma: FloatSoma, shape: Shape, *, steps: int
) -> tuple[AffineLayer | ScaleLayer, FloatSoma]:
    """The map without its bias, and the soma that has it as a current from the second step on."""
    if not isinstance(layer, AffineLayer) or (bias := layer.bias) is None or not bool((bias != 0).any()):
        return layer, soma
    if steps * shape[0] > MAX_BIAS:
        raise Unfit(
            f"the bias of what comes back to it starts in the second step, which takes {steps} x {shape[0]} numbers, "
            f"{MAX_BIAS} at most",
            refused=True,
        )
    given = (soma.gain.double() * bias.double()).expand(shape[0])
    kept = torch.zeros(()) if soma.syn_leak is None else soma.syn_leak.double()
    rows = torch.zeros(steps, shape[0], dtype=torch.float64)
    for t in range(1, steps):  # what the bias has become in the synaptic current, from the second step on
        rows[t] = kept * rows[t - 1] + given
    return attrs.evolve(layer, bias=None), attrs.evolve(soma, bias=soma.bias.double() + rows)


def bias_of_late(soma: FloatSoma) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The constant bias `[C]` of a soma and that of its map `[C]`, from which `late_bias` makes its rows; else None."""
    rows, gain = soma.bias.double(), soma.gain.double()
    if rows.dim() != 2 or len(rows) < 2 or gain.dim() > 1:
        return None
    extra = rows - rows[:1]
    given, kept = extra[1], torch.zeros(()) if soma.syn_leak is None else soma.syn_leak.double()
    want = torch.zeros_like(rows)
    for t in range(1, len(rows)):
        want[t] = kept * want[t - 1] + given
    near = 1e-12 * float(rows.abs().max())
    if not torch.allclose(extra, want, rtol=1e-9, atol=near) or bool(((gain == 0) & (given != 0)).any()):
        return None
    return rows[0], given / torch.where(gain == 0, torch.ones_like(gain), gain)
