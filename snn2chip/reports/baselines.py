"""The same network off the chip: spiking and not, in integers and in floats, on one table of arithmetic.

    SNN, fp32 convention   ACs * ac + MACs * mac
    SNN, integers          ACs * add_int32 + MACs * (mul_int8 + add_int32) + updates * 2 * add_int32
    ANN, quantised         MACs_1 * (mul_int8 + add_int32) + adds_1 * add_int32
    ANN, float             MACs_1 * mac + adds_1 * ac

MACs_1, adds_1: one pass of the same layers with every input active, zeros included. A MAC with a 1-bit or ternary
weight is at least an addition: that is the lower end. An update is at least an addition and a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from snn2chip.mapping.target import Model, Target
from snn2chip.reports.energy import Estimate, Range, estimate
from snn2chip.reports.workload import Workload

SNN, ANN_INT, ANN_FLOAT = "spiking network", "quantised ANN, one pass", "float ANN, one pass"
BREAK_EVEN = "one published break-even: at T = 5 a spiking network needs rates under about 5.7 % (arXiv:2409.08290)"


@attrs.frozen(kw_only=True)
class Verdict:
    """Spiking network against an ANN on one basis: `ratio` = SNN / ANN; dearer or cheaper only if no range overlaps."""

    basis: str
    snn: Range
    ann: Range
    ratio: float
    verdict: str
    note: str = ""


def baselines(targets: Mapping[str, Target], load: Workload, only: tuple[str, ...] = ()) -> list[Estimate]:
    """Every arithmetic model of the targets once, for each network it can price."""
    models: dict[str, Model] = {}
    for target in targets.values():
        models.update({n: m for n, m in target.energies.items() if m.kind == "operations" and n != "operations"})
    found = []
    for model in models.values():
        if not only or model.name in only:
            found += _priced(model, load)
    return found


def _priced(model: Model, load: Workload) -> list[Estimate]:
    have, rows = set(model.events), []
    one = {"MACs_1": load.ann_macs, "adds_1": load.ann_adds}
    if {"ac", "mac"} <= have:
        formula = "E = ACs * ac + MACs * mac"
        rows.append(estimate(model, {"ac": load.acs, "mac": load.macs}, network=f"{SNN}, fp32", formula=formula))
        formula = "E = MACs_1 * mac + adds_1 * ac"
        rows.append(estimate(model, {"mac": one["MACs_1"], "ac": one["adds_1"]}, network=ANN_FLOAT, formula=formula))
    if {"add_int32", "mul_int8"} <= have:
        adds, products = load.acs + load.macs + 2 * load.updates, load.macs
        formula = "E = (ACs + MACs + 2 * updates) * add_int32 + MACs * mul_int8"
        found = estimate(model, {"add_int32": adds, "mul_int8": products}, network=f"{SNN}, integers", formula=formula)
        rows.append(_few_bits(found, load.few_bit_macs))
        formula = "E = (MACs_1 + adds_1) * add_int32 + MACs_1 * mul_int8"
        counts = {"add_int32": load.ann_macs + load.ann_adds, "mul_int8": load.ann_macs}
        rows.append(_few_bits(estimate(model, counts, network=ANN_INT, formula=formula), load.ann_few_bit_macs))
    if "mac_int8" in have:
        formula = "E = MACs_1 * mac_int8"
        rows.append(estimate(model, {"mac_int8": load.ann_macs}, network=ANN_INT, formula=formula))
    if "mac_fp16" in have:
        formula = "E = MACs_1 * mac_fp16"
        rows.append(estimate(model, {"mac_fp16": load.ann_macs}, network=ANN_FLOAT, formula=formula))
    return rows


def _few_bits(found: Estimate, few: float) -> Estimate:
    """Products with weights of ±1 and 0 may be left out: the lower end of the range."""
    product = next(f for f in found.factors if f.event == "mul_int8")
    if not few or not product.count:
        return found
    saved = product.joules.lo * few / product.count
    factors = tuple(
        attrs.evolve(f, joules=attrs.evolve(f.joules, lo=f.joules.lo - saved)) if f is product else f
        for f in found.factors
    )
    joules = attrs.evolve(found.joules, lo=found.joules.lo - saved)
    caveat = f"{found.caveat}; lower end: products with 1-bit and ternary weights are additions"
    return attrs.evolve(found, factors=factors, joules=joules, caveat=caveat)


def verdicts(chips: list[Estimate], arithmetic: list[Estimate]) -> list[Verdict]:
    """The spiking network against the ANN of the same basis, and each chip model against the cheapest ANN."""
    rows = []
    by = {(e.model, e.network): e for e in arithmetic}
    for model in dict.fromkeys(e.model for e in arithmetic):
        for snn, ann, basis in (
            (f"{SNN}, integers", ANN_INT, "integers"),
            (f"{SNN}, fp32", ANN_FLOAT, "fp32"),
            (f"{SNN}, fp32", ANN_INT, "fp32 against a quantised ANN"),
        ):
            if (model, snn) in by and (model, ann) in by:
                rows.append(_verdict(f"{model}: {basis}", by[model, snn].joules, by[model, ann].joules, BREAK_EVEN))
    floors = [e for e in arithmetic if e.network == ANN_INT]
    for chip in chips:
        for floor in floors:
            note = "not like for like: other node, no memory traffic, a peak nobody reaches at batch 1"
            basis = f"{chip.model} ({chip.scope}) against {ANN_INT} on {floor.model}"
            rows.append(_verdict(basis, chip.joules, floor.joules, note))
    return rows


def _verdict(basis: str, snn: Range, ann: Range, note: str) -> Verdict:
    says = "undecided: the ranges overlap"
    if snn.hi < ann.lo:
        says = "the spiking network is cheaper"
    elif snn.lo > ann.hi:
        says = "the spiking network is dearer"
    ratio = snn.value / ann.value if ann.value else float("inf")
    return Verdict(basis=basis, snn=snn, ann=ann, ratio=ratio, verdict=says, note=note)
