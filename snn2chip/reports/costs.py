"""Energy, time and power of a measured program on several targets, beside the same network off the chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from snn2chip.errors import InputError
from snn2chip.ir.program import Program
from snn2chip.mapping.breach import summary
from snn2chip.mapping.capabilities import check_target
from snn2chip.mapping.target import Target
from snn2chip.mapping.target_file import load_target
from snn2chip.reports.baselines import Verdict, baselines, verdicts
from snn2chip.reports.detail import Detail
from snn2chip.reports.energy import Estimate, Total, chip_estimates, totals
from snn2chip.reports.floors import floor_plan
from snn2chip.reports.latency import Timing, timings
from snn2chip.reports.workload import Traffic, Workload, workload

BOTH = ("loihi1", "loihi2")

CAVEATS = (
    "Energies are modelled, not measured; every model names its source and its confidence: M measured silicon, PS "
    "published pre-silicon simulation, S specification, C read in source code, D arithmetic on those, E estimate; "
    "* means that the primary document was not read directly.",
    "The Loihi 1 table is pre-silicon and a lower bound; the Loihi 2 figures are surrogates, for no energy of its "
    "operations is published.",
    "Dynamic and total energy stand side by side; static power is that of all allocated chips; embedded processors and "
    "host input and output are in neither.",
    "The ANN is this network itself, one pass at batch 1 with every input active, at matched widths; its accuracy is "
    "the float model's. Compare with the quantised ANN, not only with fp32.",
    "Arithmetic at 45 nm and chips at 14 nm or Intel 4 are not like for like; memory traffic usually dominates and is "
    "not in the arithmetic.",
    "The time of a step is a bound from the busiest core and the barrier; input and output may be slower.",
    "Cores and chips are feasible under an assumed layout, not a vendor's compile; Lava and lava-dl were archived in "
    "May 2026.",
    "Active: a neuron that received input or spiked in the step (the sources do not define it).",
)


@attrs.frozen(kw_only=True)
class TargetCosts:
    """One target: cores, energies (J per sample), times (s), totals with static power.

    `refused`: why the program as it is cannot run there; the figures are then those of its counts alone.
    """

    name: str
    title: str
    cores: int
    tiles: int
    chips: int
    refused: tuple[str, ...]
    floor: str
    placed: bool
    traffic: Traffic
    estimates: tuple[Estimate, ...]
    timings: tuple[Timing, ...]
    totals: tuple[Total, ...]
    core_map: tuple[Mapping[str, Any], ...] = ()


@attrs.frozen(kw_only=True)
class Costs:
    """Costs of one sample, on average over those counted."""

    workload: Workload
    targets: tuple[TargetCosts, ...]
    arithmetic: tuple[Estimate, ...]
    verdicts: tuple[Verdict, ...]
    caveats: tuple[str, ...]
    sources: Mapping[str, str]


def costs(
    program: Program,
    detail: Detail,
    *,
    targets: Sequence[Target | str | Path] = BOTH,
    models: Sequence[str] = (),
) -> Costs:
    """Costs on every target by every energy model (those named in `models`, if any).

    Raises InputError for unknown targets and for models that no target has.
    """
    chips = {t.name: t for t in (t if isinstance(t, Target) else load_target(t) for t in targets)}
    known = {name: None for chip in chips.values() for name in chip.energies}
    if missing := [name for name in models if name not in known]:
        raise InputError(f"energy model must be one of {', '.join(known)}, got {', '.join(missing)}")
    only = tuple(models)
    load = workload(program, detail)
    found = [_on(program, detail, chip, load, only) for chip in chips.values()]
    arithmetic = baselines(chips, load, only)
    sources = {key: text for chip in chips.values() for key, text in chip.sources.items()}
    return Costs(
        workload=load,
        targets=tuple(found),
        arithmetic=tuple(arithmetic),
        verdicts=tuple(verdicts([e for row in found for e in row.estimates], arithmetic)),
        caveats=CAVEATS,
        sources={**sources, "own": "a choice of snn2chip, to be read as an estimate"},
    )


def _on(program: Program, detail: Detail, chip: Target, load: Workload, only: tuple[str, ...]) -> TargetCosts:
    floor, load, core_map = floor_plan(program, detail, load, chip)
    estimates = chip_estimates(chip, load, only)
    times = timings(chip, load, floor)
    return TargetCosts(
        name=chip.name,
        title=chip.title,
        cores=floor.count,
        tiles=floor.tiles,
        chips=floor.chips,
        refused=tuple(summary(check_target(program, chip), "refused")),
        floor=floor.note,
        placed=bool(core_map),
        traffic=load.traffic,
        estimates=tuple(estimates),
        timings=tuple(times),
        totals=tuple(totals(chip, estimates, {t.model: t.sample for t in times}, floor.chips)),
        core_map=core_map,
    )
