"""Read the levels of `factors` back from finished nodes, so that coverage is measured on real programs."""

from __future__ import annotations

import numpy as np

from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import PER_CHANNEL, PER_STEP, Soma
from snn2chip.ir.types import LEAK_ONE, NEVER, V_MAX
from snn2chip.testing.factors import NARROW, NO_THETA, SYNAPSE_FACTORS, Level, neuron_space


def soma_levels(soma: Soma) -> dict[str, str]:
    """The levels that a finished soma realises (see `SOMA_FACTORS`)."""
    return {
        "ladder": "yes" if soma.ladder else "no",
        "fire": soma.fire,
        "reset": soma.reset,
        "levels": "many" if int(soma.levels.max()) > 1 else "one",
        "theta": _theta_level(soma),
        "window": "none" if soma.window is None else "shifted" if soma.window_shift else "exact",
        "syn_leak": "none" if soma.syn_leak is None else _leak_level(soma.syn_leak, full="full"),
        "leak": _leak_level(soma.leak, full="one"),
        "v_min": "none" if soma.v_min is None else "positive" if (soma.v_min > 0).any() else "negative",
        "gain": _gain_level(soma),
        "bias": "yes" if soma.bias.any() else "no",
        "v_init": "yes" if soma.v_init.any() else "no",
        "per_step": "yes" if _per_step(soma) else "no",
        "spread": _spread_level(soma),
        "scaling": _scaling_level(soma),
    }


def synapse_levels(node: Synapse | Product, shape: tuple[int, ...], others: list[tuple[int, ...]]) -> dict[str, str]:
    """The levels that a current source realises (see `SYNAPSE_FACTORS`).

    `shape` is what it makes, `others` the shapes of its sources.
    """
    found = {f: levels[0] for f, levels in SYNAPSE_FACTORS.items()}
    if isinstance(node, Product):
        gate = any(other != shape for other in others)
        return {**found, "kind": "gate" if gate else "product", "weights": "none"}
    named = {1: "binary", "ternary": "ternary", 4: "int4", 8: "int8"}
    weights = node.sign if node.sign != "mixed" else named.get(node.bits, "int8")
    depthwise = node.groups > 1 and node.groups == others[0][0]
    return {
        "kind": node.kind,
        "weights": weights,
        "sparse": "yes" if node.sparse else "no",
        "exponent": "yes" if node.exponent else "no",
        "stride": "strided" if node.stride != (1, 1) else "plain",
        "padding": "yes" if node.padding != (0, 0) else "no",
        "dilation": "yes" if node.dilation != (1, 1) else "no",
        "groups": "depthwise" if depthwise else "two" if node.groups > 1 else "one",
    }


def program_pairs(program: Program) -> set[tuple[Level, Level]]:
    """All pairs of levels that occur together at one soma and one of the current sources that feed it."""
    found: set[tuple[Level, Level]] = set()
    space = neuron_space()
    for soma in program.somas:
        own = soma_levels(soma)
        for edge in program.into[soma.name]:
            node = program[edge.src]
            assert isinstance(node, (Synapse, Product))
            others = [program.shapes[e.src] for e in program.into[node.name]]
            found |= space.pairs_of({**own, **synapse_levels(node, program.shapes[node.name], others)})
    return found


def _theta_level(soma: Soma) -> str:
    if soma.fire in NO_THETA or soma.theta is None:
        return "positive"
    if (soma.theta == NEVER).any():
        return "never"
    return "nonpositive" if (soma.theta <= 0).any() else "positive"


def _leak_level(leak: np.ndarray, *, full: str) -> str:  # type: ignore[type-arg]
    if (leak < 0).any():
        return "negative"
    if (leak > LEAK_ONE).any():
        return "growth"
    if (leak == LEAK_ONE).all():
        return full
    return "zero" if (leak == 0).all() else "decay"


def _gain_level(soma: Soma) -> str:
    if (soma.gain < 0).any():
        return "negative"
    return "one" if (soma.gain == 1).all() and not soma.gain_shift.any() else "scaled"


def _per_step(soma: Soma) -> bool:
    values = [getattr(soma, f) for f in PER_STEP if not (f == "theta" and soma.ladder)]
    return any(v is not None and v.shape[0] > 1 for v in values)


def _spread_level(soma: Soma) -> str:
    values = [getattr(soma, f) for f in (*PER_STEP, *PER_CHANNEL)]
    trailing = {v.shape[1:] for v in values if v is not None and v[0].size > 1}
    if len(soma.shape) > 1 and soma.shape in trailing:
        return "neuron"
    return "channel" if trailing else "scalar"


def _scaling_level(soma: Soma) -> str:
    top = {"levels": int(soma.levels.max()), "none": 0}.get(soma.fire, V_MAX)
    if soma.fire == "table" and soma.table is not None:
        top = int(abs(soma.table).max())
    reach = min((top * int(soma.out_gain.max())) >> int(soma.out_shift.min()), V_MAX)
    if (soma.out_max < min(reach, NARROW)).any():
        return "clipped"
    return "scaled" if (soma.out_gain != 1).any() or soma.out_shift.any() else "identity"
