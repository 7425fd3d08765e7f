"""The JSON form: as its published schema says, and every constant with a source that is spelled out."""

from __future__ import annotations

import csv
import json
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

import snn2chip
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
    return snn2chip.report(program, x, labels=np.zeros(20, int), float_graph=graph, **ALL)


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


def constants(value, path="$"):
    """Everything in the JSON that has a unit, with its path."""
    if isinstance(value, dict):
        if "unit" in value:
            yield path, value
        for key, item in value.items():
            yield from constants(item, f"{path}.{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from constants(item, f"{path}[{i}]")


def test_every_constant_has_a_source_and_every_energy_a_formula(whole) -> None:
    found = plain(whole)
    sources, seen = found["costs"]["sources"], 0
    for path, constant in constants(found["costs"]):
        seen += 1
        names = [name.strip() for name in constant["source"].split(",")]
        assert names, path
        assert all(sources.get(name) for name in names), (path, names)
        assert constant["confidence"], path
        assert constant["unit"] in ("pJ", "ns", "W"), path
    assert seen > 40
    rows = [e for t in found["costs"]["targets"] for e in t["estimates"]] + found["costs"]["arithmetic"]
    for row in rows:
        assert row["formula"].startswith("E")
        assert row["caveat"]
        for term in row["factors"]:  # value and ends are the count times the constant, nothing else
            lo, hi = (term["each"].get(k, term["each"]["value"]) for k in ("lo", "hi"))
            assert term["joules"]["value"] == pytest.approx(term["count"] * term["each"]["value"] * 1e-12)
            assert term["joules"]["hi"] == pytest.approx(term["count"] * hi * 1e-12)
            assert term["joules"]["lo"] <= term["count"] * lo * 1e-12 * (1 + 1e-12)
        assert row["joules"]["value"] == pytest.approx(sum(f["joules"]["value"] for f in row["factors"]))


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
