"""The JSON form: as its published schema says, and every constant with a source that is spelled out."""

from __future__ import annotations

import csv
import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import snn2chip
from snn2chip.checks.float_model import FloatModel
from snn2chip.cli.screen import as_json
from snn2chip.errors import InputError
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.reports.report import Report, measure
from snn2chip.reports.rows import COLUMNS, comparison, side_by_side, write_csv
from snn2chip.testing import graphs

sys.path.insert(0, str(Path(__file__).parent))
from schema import breaches

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/report-schema.json").read_text())
ALL = {"targets": ("loihi1", "loihi2", "ideal"), "neurobench": 4, "execution_rate": 10.0}


@pytest.fixture(scope="module")
def whole() -> Report:
    x = np.random.default_rng(0).integers(0, 16, (20, 1, 6, 6))
    graph = graphs.chain(2)
    program = lower(graph, calibrate(graph, x), meta={"name": "chain"})
    model = FloatModel(module=nn.Linear(36, 3), prepare=lambda raw: torch.as_tensor(raw).float().flatten(1))
    return snn2chip.report(
        program,
        x,
        labels=np.zeros(20, int),
        float_graph=graph,
        float_model=model,
        sensitivity=3,
        board_power=9.0,
        **ALL,
    )


def plain(report: Report):
    return json.loads(as_json(report.as_dict()))


def test_the_full_report_fits_the_schema(whole) -> None:
    assert list(breaches(plain(whole), SCHEMA, SCHEMA)) == []


def test_the_smallest_report_fits_the_schema(whole) -> None:
    x = np.zeros((2, 1, 6, 6), int)
    found = plain(snn2chip.report(whole.program, x))
    assert list(breaches(found, SCHEMA, SCHEMA)) == []
    assert found["detail"] is found["costs"] is found["neurobench"] is None


def test_jsonschema_agrees(whole) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed; the tests above check by hand")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(plain(whole), SCHEMA)


def test_the_schema_refuses_what_it_should(whole) -> None:
    good = plain(whole)
    for change in (
        lambda d: d.pop("digest"),
        lambda d: d.update(version=1),
        lambda d: d["costs"]["targets"][0]["estimates"][0]["factors"][0]["each"].pop("source"),
        lambda d: d["costs"]["targets"][0]["estimates"][0].update(scope="all"),
        lambda d: d["detail"]["sources"][0].update(spikes=0.5),
    ):
        bad = deepcopy(good)
        change(bad)
        assert list(breaches(bad, SCHEMA, SCHEMA))


def untraced(report: dict[str, Any]) -> list[str]:
    """What of the energies, times and powers of a report (JSON) does not lead to a source or a formula."""
    costs, versus = report["costs"], report["versus"]
    sources = {**costs["sources"], **versus["float_side"]["sources"]}
    bad: list[str] = []

    def constant(value: Any, where: str) -> None:
        if not isinstance(value, dict) or value.get("unit") not in ("pJ", "ns", "W"):
            bad.append(f"{where}: no constant with a unit")
            return
        names = [name.strip() for name in value.get("source", "").split(",")]
        bad.extend(f"{where}: source {name!r} is not spelled out" for name in names if not sources.get(name))
        if not value.get("confidence"):
            bad.append(f"{where}: no confidence")

    def walk(value: Any, where: str, formula: bool) -> None:
        if isinstance(value, list):
            for i, item in enumerate(value):
                walk(item, f"{where}[{i}]", formula)
        if not isinstance(value, dict):
            return
        if set(value) == {"value", "lo", "hi"} and not formula:
            bad.append(f"{where}: a figure with a range that no formula stands beside")
        if "each" in value or ("power" in value and where.endswith("]")):
            constant(value.get("each", value.get("power")), where)
        elif "event" in value:
            bad.append(f"{where}: an event without its constant")
        if "factors" in value and not value["factors"]:
            bad.append(f"{where}: an energy of no factors")
        for key, item in value.items():
            walk(item, f"{where}.{key}", formula or bool(value.get("formula")))

    for key in ("targets", "arithmetic"):
        walk(costs[key], f"costs.{key}", False)
    walk(versus["float_side"]["energies"], "versus", False)
    priced = [e for t in costs["targets"] for e in t["estimates"]] + versus["float_side"]["energies"]
    priced += [{"joules": x["total"]} for t in costs["targets"] for x in t["totals"]]
    timed = [t[k] for target in costs["targets"] for t in target["timings"] for k in ("latency", "sample")]
    timed += [t["sample"] for t in versus["float_side"]["times"]]
    known = {"energy per sample": [e["joules"] for e in priced], "latency": timed, "time per sample": timed}
    for row in versus["rows"]:
        if row["figure"] in known and row["value"] not in known[row["figure"]]:
            bad.append(f"versus: {row['figure']} by {row['by']} is none of the figures above")
    ends = [v[k] for v in costs["verdicts"] for k in ("snn", "ann")]
    sums = [e["joules"] for e in (*priced, *costs["arithmetic"])]
    bad.extend("a verdict on an energy that is not in the report" for end in ends if end not in sums)
    return bad


def test_every_figure_leads_to_a_source_or_a_formula(whole) -> None:
    found = plain(whole)
    assert untraced(found) == []
    rows = [e for t in found["costs"]["targets"] for e in t["estimates"]] + found["costs"]["arithmetic"]
    assert sum(len(row["factors"]) for row in rows) > 40
    for row in (*rows, *found["versus"]["float_side"]["energies"]):
        assert row["formula"].startswith("E")
        assert row["caveat"]
        scale = {"pJ": 1e-12, "W": 1.0}
        for term in row["factors"]:  # value and ends are the count times the constant, nothing else
            each = term["each"]
            lo, hi = (each.get(k, each["value"]) for k in ("lo", "hi"))
            unit = scale[each["unit"]]
            assert term["joules"]["value"] == pytest.approx(term["count"] * each["value"] * unit)
            if each["unit"] == "pJ":  # seconds that are measured have a range of their own
                assert term["joules"]["hi"] == pytest.approx(term["count"] * hi * unit)
                assert term["joules"]["lo"] <= term["count"] * lo * unit * (1 + 1e-12)
        assert row["joules"]["value"] == pytest.approx(sum(f["joules"]["value"] for f in row["factors"]))


def _targets(report, i=0):
    return report["costs"]["targets"][i]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: _targets(d)["estimates"][0]["factors"][0]["each"].pop("source"),
        lambda d: _targets(d)["estimates"][0]["factors"][0]["each"].update(source="D18, nobody"),
        lambda d: _targets(d)["estimates"][1]["factors"][2].pop("each"),
        lambda d: _targets(d)["estimates"][0]["factors"].clear(),
        lambda d: _targets(d)["estimates"][0].update(formula=""),
        lambda d: _targets(d)["timings"][0]["terms"][0]["each"].update(confidence=""),
        lambda d: _targets(d)["totals"][0]["power"].pop("source"),
        lambda d: d["costs"]["arithmetic"][0]["factors"][0]["each"].update(unit=""),
        lambda d: d["costs"]["verdicts"][0]["snn"].update(value=1.0),
        lambda d: d["costs"]["sources"].pop("D18"),
        lambda d: d["versus"]["float_side"]["energies"][0]["factors"][0]["each"].pop("source"),
        lambda d: next(r for r in d["versus"]["rows"] if r["unit"] == "J")["value"].update(value=1.0),
    ],
)
def test_a_figure_without_its_source_is_found(whole, change) -> None:
    bad = deepcopy(plain(whole))
    change(bad)
    assert untraced(bad)


def test_dynamic_static_and_total_are_apart(whole) -> None:
    assert whole.costs is not None
    for target in whole.costs.targets:
        for row in target.totals:
            assert row.total.value == pytest.approx(row.dynamic.value + row.static.value)
            assert next(e.scope for e in target.estimates if e.model == row.energy) == "dynamic"
    text = " ".join(whole.costs.caveats)
    for word in ("modelled, not measured", "pre-silicon", "static power", "batch 1", "45 nm", "bound", "layout"):
        assert word in text


def test_blocks_give_the_same_report_in_one_pass(whole) -> None:
    x = np.random.default_rng(0).integers(0, 16, (20, 1, 6, 6))
    blocks = [(x[i : i + 7], np.zeros(len(x[i : i + 7]), int)) for i in range(0, 20, 7)]
    found = measure(whole.program, blocks, targets=("loihi2",))
    assert found.totals == whole.totals
    assert found.detail == whole.detail
    assert found.accuracy["integer"] == whole.accuracy["integer"]


def test_csv_has_a_line_per_layer(whole, tmp_path) -> None:
    write_csv(tmp_path / "layers.csv", whole)
    rows = list(csv.DictReader((tmp_path / "layers.csv").open()))
    assert [row["soma"] for row in rows] == ["n1", "n2", "readout"]
    assert tuple(rows[0]) == COLUMNS
    assert sum(int(row["synaptic_events"]) for row in rows) == whole.totals["synaptic_events"]
    assert sum(int(row["neuron_updates"]) for row in rows) == whole.totals["neuron_updates"]
    assert all(int(row["active_updates"]) <= int(row["neuron_updates"]) for row in rows)


def test_two_reports_side_by_side(whole) -> None:
    quiet = snn2chip.report(whole.program, np.zeros((3, 1, 6, 6), int), targets=("loihi2",))
    rows = {row["figure"]: row for row in side_by_side(whole, quiet)}
    assert rows["neurons"]["ratio"] == 1
    spikes = rows["spikes per sample"]
    assert spikes["a"] == whole.totals["spikes"] / 20
    assert spikes["b"] == quiet.totals["spikes"] / 3
    assert rows["loihi1: cores"]["b"] is None
    found = json.loads(as_json(comparison(whole, quiet)))
    for side in ("a", "b"):
        assert list(breaches(found[side], SCHEMA, SCHEMA)) == []


def test_unknown_energy_models_are_named(whole) -> None:
    with pytest.raises(InputError, match=r"energy model must be one of .*interval.*, got nonsense"):
        snn2chip.report(whole.program, np.zeros((1, 1, 6, 6), int), energy_models=("nonsense",))


def test_one_energy_model(whole) -> None:
    x = np.zeros((1, 1, 6, 6), int)
    found = snn2chip.report(whole.program, x, targets=("loihi2",), energy_models=("interval",)).costs
    assert [e.model for e in found.targets[0].estimates] == ["interval"]
    assert found.arithmetic == ()
