"""Time per step and per sample from the slowest core and the barrier.

    sum         T = max over cores (updates * t_update + synops * t_synop + spikes * t_out) + T_barrier
    max-affine  T >= max(neuron ops, synaptic ops, memory reads, busiest link's bits, each times its rate; barrier)

Loads are means over steps and samples, per core. Samples follow each other every `machine_steps` steps; the result of
a sample is complete `latency_steps` after its first input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from snn2chip.mapping.fact import Fact
from snn2chip.mapping.target import Model, Target
from snn2chip.reports.energy import ZERO, Range, spread
from snn2chip.reports.workload import FORMATS, Workload

NANO = 1e-9
EVEN = (
    "no placement: every population split evenly over the fewest cores that its neurons and weight bits allow (a ratio)"
)


@attrs.frozen(kw_only=True)
class CoreLoad:
    """Mean work of one core in one machine step."""

    core: str
    updates: float
    active: float
    synops: Mapping[str, float]
    spikes: float


@attrs.frozen(kw_only=True)
class Floor:
    """Cores, tiles and chips in use, and what each core has to do."""

    cores: tuple[CoreLoad, ...]
    count: int
    tiles: int
    chips: int
    note: str
    busiest_link: float = 0.0


@attrs.frozen(kw_only=True)
class TimeTerm:
    """One term of the time of a step."""

    event: str
    count: float
    each: Mapping[str, Any]
    seconds: Range


@attrs.frozen(kw_only=True)
class Timing:
    """Time by one model; `terms` are those of the busiest core and the barrier."""

    model: str
    title: str
    kind: str
    status: str
    formula: str
    caveat: str
    busiest: str
    terms: tuple[TimeTerm, ...]
    step: Range
    sample: Range
    latency: Range


def even_floor(load: Workload, target: Target) -> Floor:
    """A floor plan by ratios, for lack of a placement."""
    limits = target.limits
    cores: list[CoreLoad] = []
    count = 0
    for row in load.layers:
        share = row.neurons / limits.neurons_per_core.value
        memory = row.weight_bits / 8 / limits.synapse_memory_per_core.value
        n = max(1, math.ceil(share), math.ceil(memory))
        per = load.machine_steps * n
        cores.append(
            CoreLoad(
                core=f"{row.soma} (one of {n})",
                updates=row.updates / per,
                active=row.active / per,
                synops={name: row.synops[name] / per for name in FORMATS},
                spikes=row.spikes / per,
            )
        )
        count += n
    per_tile = target.mesh.cores_per_tile.value if target.mesh else 1
    return Floor(
        cores=tuple(cores),
        count=count,
        tiles=math.ceil(count / per_tile),
        chips=max(1, math.ceil(count / limits.cores_per_chip.value)),
        note=EVEN,
    )


def timings(target: Target, load: Workload, floor: Floor) -> list[Timing]:
    """Every timing model of the target."""
    return [_timing(model, load, floor) for model in target.timings.values()]


def _timing(model: Model, load: Workload, floor: Floor) -> Timing:
    made = {"sum": _summed, "max-affine": _bound}[model.kind]
    busiest, terms, step = made(model, floor)
    return Timing(
        model=model.name,
        title=model.title,
        kind=model.kind,
        status=model.status,
        formula=model.formula,
        caveat=model.caveat,
        busiest=busiest,
        terms=tuple(terms),
        step=step,
        sample=step.times(load.machine_steps),
        latency=step.times(load.latency_steps),
    )


def _term(event: str, count: float, fact: Fact, at: Range | None = None) -> TimeTerm:
    each = spread(fact) if at is None else at
    return TimeTerm(event=event, count=count, each=fact.plain(), seconds=each.times(count * NANO))


def _core_events(core: CoreLoad) -> dict[str, float]:
    return {
        "update_active": core.active,
        "update_inactive": core.updates - core.active,
        "neuron_access": core.updates,
        "neuron_update": core.updates,
        "synop": sum(core.synops.values()),
        **{f"synop_{name}": core.synops[name] for name in FORMATS},
        "spike_out": core.spikes,
    }


def _summed(model: Model, floor: Floor) -> tuple[str, list[TimeTerm], Range]:
    closing = (
        [_term("barrier", 1, model.events["barrier"], _barrier(model, floor))] if "barrier" in model.events else []
    )
    if "step" in model.events:  # a step as measured; the barrier is its lower bound
        step = _term("step", 1, model.events["step"])
        return "", [step, *closing], _largest([step.seconds, *(t.seconds for t in closing)])
    best: tuple[str, list[TimeTerm], Range] = ("", closing, sum((t.seconds for t in closing), ZERO))
    for core in floor.cores:
        counts = _core_events(core)
        terms = [_term(name, counts[name], fact) for name, fact in model.events.items() if name in counts]
        terms += closing
        time = sum((t.seconds for t in terms), ZERO)
        if time.value > best[2].value or not best[0]:
            best = core.core, terms, time
    return best


def _bound(model: Model, floor: Floor) -> tuple[str, list[TimeTerm], Range]:
    """The largest of the terms; every rate is the user's own."""

    def most(pick: Any) -> float:
        return max((pick(core) for core in floor.cores), default=0.0)

    counts = {
        "neuron_op": most(lambda c: c.updates),
        "synop": most(lambda c: sum(c.synops.values())),
        "memory_read": most(lambda c: sum(c.synops.values())),
        "link_bit": floor.busiest_link,
        "barrier": 1.0,
    }
    terms = [
        _term(name, counts[name], fact, _barrier(model, floor) if name == "barrier" else None)
        for name, fact in model.events.items()
        if name in counts
    ]
    return max(terms, key=lambda t: t.seconds.value).event, terms, _largest([t.seconds for t in terms])


def _barrier(model: Model, floor: Floor) -> Range:
    """A barrier at the tiles or chips in use; its range is that of the source."""
    fact = model.events["barrier"]
    full = spread(fact)
    if not fact.points:
        return full
    at = {"tiles": floor.tiles, "chips": floor.chips}.get(fact.by)
    if at is None:
        return full
    xs, ys = zip(*fact.points, strict=True)
    return Range(value=float(np.interp(at, xs, ys)), lo=full.lo, hi=full.hi)


def _largest(found: Sequence[Range]) -> Range:
    return Range(value=max(r.value for r in found), lo=max(r.lo for r in found), hi=max(r.hi for r in found))
