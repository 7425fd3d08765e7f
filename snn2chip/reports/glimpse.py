"""A look at one sample: spikes and potentials of a few neurons per population, for pictures."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import NEVER
from snn2chip.trace import Trace

RASTER_NEURONS = 120
TRACED = 4


@attrs.frozen(kw_only=True)
class Look:
    """One population in one sample: payloads `[T, neurons shown]`, potentials `[T, traced]`, threshold per step."""

    node: str
    neurons: int
    shown: list[int]
    payloads: Any
    traced: list[int]
    potentials: Any
    thresholds: Any


@attrs.frozen(kw_only=True)
class Glimpse:
    """The first sample of a run."""

    looks: tuple[Look, ...]


def glimpse(program: Program, trace: Trace) -> Glimpse:
    """Spread over each population, neurons that spike most are traced (of a read-out: the first ones)."""
    looks = []
    for node in (*program.inputs, *program.somas):
        p = trace.inputs.get(node.name) if not isinstance(node, Soma) else trace.payloads.get(node.name)
        if p is None:
            continue
        flat = np.asarray(p[:, 0]).reshape(len(p), -1)
        n = flat.shape[1]
        shown = np.unique(np.linspace(0, n - 1, min(n, RASTER_NEURONS)).astype(int))
        traced: list[int] = []
        potentials = thresholds = None
        if isinstance(node, Soma) and node.name in trace.potentials:
            v = np.asarray(trace.potentials[node.name][:, 0]).reshape(len(p), -1)
            busy = np.argsort(-(flat != 0).sum(0), kind="stable") if node.fire != "none" else np.arange(n)
            traced = sorted(int(i) for i in busy[: TRACED if node.fire != "none" else 10])
            potentials, thresholds = v[:, traced], _thresholds(node, traced, len(p))
        looks.append(
            Look(
                node=node.name,
                neurons=n,
                shown=shown.tolist(),
                payloads=flat[:, shown],
                traced=traced,
                potentials=potentials,
                thresholds=thresholds,
            )
        )
    return Glimpse(looks=tuple(looks))


def _thresholds(soma: Soma, neurons: list[int], steps: int) -> Any:
    """Threshold of each traced neuron at every step `[T, traced]`, None where there is none."""
    if soma.theta is None or soma.fire not in ("levels", "excess") or soma.ladder:
        return None
    rows = [np.broadcast_to(soma.at("theta", t), soma.shape).reshape(-1)[neurons] for t in range(steps)]
    found = np.stack(rows)
    return None if (found >= NEVER).all() else found
