"""Threshold balancing: one firing threshold per unit of a ReLU network, from its activations on data.

    V = p-quantile (or maximum) of the unit's ReLU outputs on the training set, with zeros or of the positive ones

A unit is a layer, or a residual block: all activations between the fork and the sum, and the one that reads the sum.
The activations of a block share one threshold, the quantile of their pooled outputs. `search` tries several pools and
keeps the one whose spiking network answers best on data. Sources: Diehl et al. 2015, Rueckauer et al. 2017,
Li et al. Mathematics 2023, 11(1), 58.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs
import torch
from torch import Tensor

from snn2chip.convert.activations import Activation, ancestors, find
from snn2chip.convert.parallel_calibration import run_layers
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph

Units = tuple[tuple[str, ...], ...]


@attrs.frozen(kw_only=True)
class Pool:
    """Which statistic a threshold is: the `quantile` (1 is the maximum) of the outputs, `zeros` counted or not."""

    quantile: float = 0.99
    zeros: bool = True

    def __attrs_post_init__(self) -> None:
        if not 0 < self.quantile <= 1:
            raise InputError(f"Pool: quantile={self.quantile} must be in (0, 1]; 1 is the maximum")

    def __str__(self) -> str:
        name = "maximum" if self.quantile == 1 else f"{self.quantile:g}-quantile"
        return f"{name} {'with' if self.zeros else 'without'} zeros"


MAXIMUM = Pool(quantile=1.0)
CANDIDATES = tuple(Pool(quantile=q, zeros=z) for z in (True, False) for q in (0.9, 0.95, 0.97, 0.99, 0.999, 1.0))


def layer_units(graph: LayerGraph) -> Units:
    """Return every activation as a unit of its own, in topological order."""
    return tuple((a.name,) for a in find(graph, kinds=("relu",)))


def block_units(graph: LayerGraph) -> Units:
    """Return the activations grouped by residual block, in topological order; the rest are units of their own.

    Blocks that overlap become one.
    """
    names = [a.name for a in find(graph, kinds=("relu",))]
    groups: list[set[str]] = []
    for add in graph.of_kind("add"):
        branches = [{src.name, *ancestors(graph, src.name)} for src in graph.sources(add.name)]
        shared = {name for name in branches[0] if all(name in branch for branch in branches)}
        inside = {name for branch in branches for name in branch} - shared
        members = {name for name in names if name in inside or _reads(graph, name, add.name)}
        joined = [group for group in groups if group & members]
        groups = [group for group in groups if not group & members]
        groups.append(members.union(*joined))
    units = [*groups, *({name} for name in names if not any(name in group for group in groups))]
    ordered = [tuple(name for name in names if name in unit) for unit in units if unit]
    return tuple(sorted(ordered, key=lambda unit: names.index(unit[0])))


def _reads(graph: LayerGraph, name: str, add: str) -> bool:
    """Return whether an activation reads a sum, directly or through norms, pools and other one-input layers."""
    (source,) = graph.sources(name)
    while source.name != add:
        if source.kind in ("relu", "neuron", "add", "input", "linear", "conv2d"):
            return False
        (source,) = graph.sources(source.name)
    return True


@torch.no_grad()
def balance(
    graph: LayerGraph,
    data: Sequence[Tensor],
    *,
    units: Units | None = None,
    pool: Pool | None = None,
    keep: int = 1 << 22,
) -> dict[str, float]:
    """Return V of every activation by name, from the ReLU outputs on batches `data`.

    At most about `keep` outputs of an activation are kept for the quantile (every n-th; the maximum sees all).
    Raises InputError that lists the units that never fire, and names that are missing from or foreign to `units`.
    """
    pool = Pool() if pool is None else pool
    units = layer_units(graph) if units is None else units
    known = {a.name: a for a in find(graph, kinds=("relu",))}
    _check_units(known, units)
    seen: dict[str, list[Tensor]] = {name: [] for name in known}
    samples = sum(len(x) for x in data)

    def note(name: str, z: Tensor) -> Tensor:
        out = known[name].value(z)
        flat = out.flatten()
        if pool.quantile == 1:
            seen[name].append(flat.max()[None])
        else:
            stride = max(1, out[0, 0].numel() * samples // keep)
            seen[name].append(flat[::stride])
        return out

    for x in data:
        run_layers(graph, x, note)
    found, dead = {}, []
    for unit in units:
        outputs = torch.cat([part for name in unit for part in seen[name]])
        value = _statistic(outputs, pool)
        if not value > 0:
            shown = ", ".join(known[name].layer.label for name in unit)
            dead.append(f"{shown}: the {pool} of the activations is 0; take a higher quantile or leave out zeros")
        found.update(dict.fromkeys(unit, value))
    if dead:
        raise InputError(dead)
    return {name: found[name] for name in known}


def _statistic(outputs: Tensor, pool: Pool) -> float:
    if pool.quantile == 1:
        return float(outputs.max())
    outputs = outputs if pool.zeros else outputs[outputs > 0]
    if not len(outputs):
        return 0.0
    rank = min(len(outputs), int(pool.quantile * len(outputs)) + 1)
    return float(outputs.kthvalue(rank).values)


def _check_units(known: dict[str, Activation], units: Units) -> None:
    given = [name for unit in units for name in unit]
    bad = [f"unit names {name!r}, which is no ReLU of the network" for name in given if name not in known]
    bad += [f"{a.layer.label}: in no unit" for a in known.values() if a.name not in given]
    bad += [f"{name!r}: in {given.count(name)} units" for name in dict.fromkeys(given) if given.count(name) > 1]
    if bad:
        raise InputError(bad)


def search(candidates: Iterable[Pool], score: Callable[[Pool], float]) -> tuple[Pool, dict[Pool, float]]:
    """Return the pool with the highest score, the first of equals, and all scores.

    `score` converts with a pool and measures, such as the accuracy on the training set at the T in question.
    """
    scores = {pool: score(pool) for pool in candidates}
    if not scores:
        raise InputError("search needs at least one candidate pool")
    return max(scores, key=scores.__getitem__), scores
