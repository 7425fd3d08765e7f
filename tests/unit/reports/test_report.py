"""The report: hand-computed counts, accuracies that are None when nobody knows them, tables that show both."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from rich.console import Console

import snn2chip
from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.errors import InputError
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.reports.report import Report
from snn2chip.reports.tables import counts_table, fidelity_table
from snn2chip.testing import graphs


def dense(weight: np.ndarray, *, hi: int = 1, sparse: bool = False) -> Program:
    """100 -> 50, one step, nothing fires but the inputs."""
    n, m = weight.shape[1], weight.shape[0]
    return Program(
        nodes=[
            Input("x", (n,), -hi, hi),
            Synapse("w", "linear", weight, sparse=sparse),
            Soma("s", (m,), fire="none"),
            Output("o", "potential"),
        ],
        edges=[("x", "w"), ("w", "s"), ("s", "o")],
        steps=1,
    )


@pytest.mark.parametrize(("value", "weighted"), [(1, 800), (2, 1600), (-1, 800), (7, 5600)])
def test_sixteen_active_inputs_into_fifty_neurons_are_800_events_whatever_their_payload(value, weighted) -> None:
    weight = np.random.default_rng(0).integers(0, 2, (50, 100)) * 2 - 1
    x = np.zeros((3, 100), int)
    x[:, 5:21] = value
    found = snn2chip.report(dense(weight, hi=7), x)
    assert found.totals["synaptic_events"] == 3 * 800
    assert found.totals["payload_weighted_events"] == 3 * weighted
    assert found.totals["neuron_updates"] == 3 * 50
    assert found.totals["spikes"] == 0
    assert found.totals["input_spikes"] == 3 * 16
    assert found.per_sample("synaptic_events") == 800
    assert found.layers[0].dense_events == 3 * 5000


def test_sparse_weights_are_counted_without_their_zeros() -> None:
    weight = np.zeros((50, 100), int)
    weight[:10, :] = 1
    x = np.zeros((1, 100), int)
    x[0, :16] = 1
    assert snn2chip.report(dense(weight), x).totals["synaptic_events"] == 800
    assert snn2chip.report(dense(weight, sparse=True), x).totals["synaptic_events"] == 160


def small() -> tuple[Program, graphs.LayerGraph, np.ndarray]:
    x = np.random.default_rng(0).integers(0, 16, (20, 1, 6, 6))
    graph = graphs.chain(2)
    return lower(graph, calibrate(graph, x), meta={"name": "chain"}), graph, x


def test_without_a_float_model_float_and_agreement_are_none() -> None:
    program, _, x = small()
    found = snn2chip.report(program, x, labels=np.zeros(20, int)).as_dict()
    assert found["accuracy"]["float"] is None
    assert found["agreement"] is None
    assert found["fidelity"] is None
    assert 0 <= found["accuracy"]["integer"] <= 1
    assert snn2chip.report(program, x).accuracy == {"float": None, "integer": None}


def test_json_holds_what_the_run_counted_and_what_fidelity_measured() -> None:
    program, graph, x = small()
    labels = graph.run(torch.as_tensor(x, dtype=torch.float32)).output.argmax(1).numpy()
    found = json.loads(json.dumps(snn2chip.report(program, x, labels=labels, float_graph=graph).as_dict()))
    assert found["accuracy"] == {"float": 1.0, "integer": 1.0}
    assert found["agreement"] == 1.0
    trace = snn2chip.run(program, x, backend="reference")
    spikes = sum(int((p != 0).sum()) for p in trace.payloads.values())
    assert found["totals"]["spikes"] == spikes > 0
    assert {row["soma"] for row in found["layers"]} == {"n1", "n2", "readout"}
    assert sum(row["synaptic_events"] for row in found["layers"]) == found["totals"]["synaptic_events"]
    assert len(found["assumptions"]) >= 5


def text(report: Report) -> str:
    screen = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    screen.print(counts_table(report))
    if report.fidelity is not None:
        screen.print(fidelity_table(report.fidelity))
    return screen.export_text()


def test_tables_show_every_soma_and_both_fidelities() -> None:
    program, graph, x = small()
    shown = text(snn2chip.report(program, x, float_graph=graph))
    for word in ("chain", "n1", "n2", "readout", "total", "syn. events", "x payload", "own error only", "100.000%"):
        assert word in shown


def test_labels_must_fit() -> None:
    program, _, x = small()
    with pytest.raises(InputError, match="3 labels for 20 samples"):
        snn2chip.report(program, x, labels=np.zeros(3))
