"""One layer quantized at a time: rows against runs with weights quantized by hand, and against integer programs."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch

import snn2chip
from snn2chip.checks.sensitivity import ALL, sensitivity, sensitivity_text
from snn2chip.errors import InputError
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.quantize.spec import QuantSpec
from snn2chip.testing import graphs

X = np.random.default_rng(0).integers(0, 16, (50, 1, 6, 6))
_CHAIN = graphs.chain(2)
GRAPH = _CHAIN.with_layers(  # classes that the samples differ in
    attrs.evolve(_CHAIN.layer("fc"), bias=None, weight=torch.sin(torch.arange(60.0) ** 2).double().reshape(3, 20))
)


def by_hand(name: str) -> tuple[float, float]:
    """Agreement of classes and payloads with `name` made binary: sign(w) * mean |w| per output."""
    layer = GRAPH.layer(name)
    flat = layer.weight.reshape(len(layer.weight), -1)
    made = torch.where(flat >= 0, 1.0, -1.0) * flat.abs().mean(1, keepdim=True)
    other = GRAPH.with_layers(attrs.evolve(layer, weight=made.reshape(layer.weight.shape)))
    a, b = (g.run(torch.as_tensor(X).float(), collect=True) for g in (GRAPH, other))
    equal = [(a.values[n] == b.values[n]).double() for n in ("n1", "n2")]
    share = sum(float(e.sum()) for e in equal) / sum(e.numel() for e in equal)
    return float((a.output.argmax(1) == b.output.argmax(1)).double().mean()), share


def test_rows_are_runs_with_one_layer_changed() -> None:
    rows = {(r.layer, r.mode): r for r in sensitivity(GRAPH, X, modes=("int8", "binary"), block=7)}
    assert set(rows) == {(n, m) for n in ("net.c1", "net.c2", "net.fc", ALL) for m in ("int8", "binary")}
    for name in ("c1", "fc"):
        agreement, spikes = by_hand(name)
        row = rows[f"net.{name}", "binary"]
        assert row.agreement == pytest.approx(agreement)
        assert row.spikes == pytest.approx(spikes)
    assert rows["net.c1", "binary"].spikes < 0.95  # it does cost something
    assert rows["net.fc", "binary"].spikes == 1.0  # nothing fires behind it
    assert rows["net.fc", "binary"].agreement < 1.0
    trained = rows["net.c2", "binary"]
    assert (trained.agreement, trained.spikes, trained.lowest) == (1.0, 1.0, 1.0)
    assert rows["net.c1", "int8"].spikes == 1.0  # these weights are exact in 8 bits


def test_the_integer_program_agrees_as_a_row_says() -> None:
    (row, _) = sensitivity(GRAPH, X, modes=("int3",), layers="net.c1")
    program = lower(GRAPH, calibrate(GRAPH, X), spec=QuantSpec(overrides={"c1": "int3"}))
    trace = snn2chip.run(program, X, backend="reference")
    floats = GRAPH.run(torch.as_tensor(X).float(), collect=True)
    equal = [trace.payloads[n] == np.rint(floats.values[n].numpy() / 0.5) for n in ("n1", "n2")]
    share = sum(e.sum() for e in equal) / sum(e.size for e in equal)
    assert row.spikes < 0.999
    assert abs(row.spikes - share) < 0.1 * (1 - share)


def test_accuracy_counts_the_labels() -> None:
    classes = GRAPH.run(torch.as_tensor(X).float()).output.argmax(1).numpy()
    for row in sensitivity(GRAPH, X, modes=("int2",), labels=classes):
        assert row.accuracy == row.agreement
    others = (classes + 1) % GRAPH.shapes[GRAPH.output.name][0]
    for row in sensitivity(GRAPH, X, modes=("int8",), labels=others):
        assert row.accuracy <= 1 - row.agreement < 0.5


def test_the_table_starts_with_the_most_sensitive_layer() -> None:
    rows = sensitivity(GRAPH, X, modes=("int8", "binary"))
    lines = sensitivity_text(rows).splitlines()[2:]
    assert len(lines) == len(rows)
    binary = [float(line.split()[-2]) for line in lines if " binary " in line]
    assert binary == sorted(binary)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"'nothing'; there are net\.c1, net\.c2, net\.fc"):
        sensitivity(GRAPH, X, layers="nothing")
    with pytest.raises(InputError, match="must be keep"):
        sensitivity(GRAPH, X, modes=("int9",))
    with pytest.raises(InputError, match="50 samples, 3 labels"):
        sensitivity(GRAPH, X, labels=[1, 2, 3])
