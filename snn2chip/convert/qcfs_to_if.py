"""QCFS activations to spiking neurons: IF, multi-level, or without residual potential.

    theta = vth/levels,  v(0) = theta/2,  leak 1,  payload theta,  T steps,  mean over the steps

A constant current z gives sum_t s(t) = clip(floor((T*z + theta/2)/theta), 0, levels*T), for every real z; with
levels*T = T~ this is the QCFS level itself. Uneven currents keep that only while each lies in 0..levels*theta.
Sources: Bu et al. ICLR 2022 (arXiv 2303.04347), Hao et al. NeurIPS 2024 (arXiv 2402.00411).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn2chip.convert.activations import Activation, exchange, find, somas_of, source_graph
from snn2chip.errors import InputError, QuantizeError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma


def check_positive(graph: LayerGraph) -> None:
    """Raise QuantizeError that lists every QCFS whose trained range is not positive."""
    bad = [
        f"{a.layer.label}: vth = {float(a.vth.min()):g} is not positive; train with a smaller learning rate"
        for a in find(graph)
        if a.vth is not None and not bool((a.vth > 0).all())
    ]
    if bad:
        raise QuantizeError(bad)


def to_if(
    model: nn.Module | LayerGraph,
    sample: Tensor | None = None,
    *,
    steps: int,
    levels: int = 1,
    window: bool = False,
) -> LayerGraph:
    """Return the converted graph: IF neurons (`levels` = 1) or multi-level ones, `steps` steps.

    `window` mixes the steps uniformly (Omega = 1/T), which makes the count exact for uneven currents too and is the
    start of LM-HT hybrid training. Raises UnsupportedError for other activations, InputError, QuantizeError.
    """
    if bad := [f"{k}={v!r}: expected an integer >= 1" for k, v in (("steps", steps), ("levels", levels)) if v < 1]:
        raise InputError(bad)
    graph = source_graph(model, sample)
    find(graph, kinds=("qcfs",))
    check_positive(graph)

    def make(a: Activation) -> FloatSoma:
        assert a.vth is not None
        theta = a.vth / levels
        return FloatSoma(
            steps=steps,
            theta=theta,
            unit=theta,
            levels=levels,
            v_init=theta / 2,
            v_init_rule="half-theta",
            window=torch.full((steps, steps), 1 / steps, dtype=theta.dtype) if window else None,
            method="lmht" if window else "if" if levels == 1 else "mht",
        )

    return exchange(graph, somas_of(graph, make), steps=steps, by="qcfs-to-if")
