"""Float model beside the chips: operations and energies by hand, a source for every constant, what changed places."""

from __future__ import annotations

import io

import attrs
import numpy as np
import pytest
import torch
from torch import nn

import snn2chip
from snn2chip.checks.float_model import FloatModel
from snn2chip.errors import InputError
from snn2chip.mapping.target_file import load_target
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.reports import float_cost as module
from snn2chip.reports.float_cost import BOARDS, float_cost
from snn2chip.reports.report import Report
from snn2chip.testing import graphs

X = np.random.default_rng(0).integers(0, 16, (70, 1, 6, 6))


def small() -> FloatModel:
    """One convolution of 4 x 1 x 3 x 3 on 4 x 4 places, one matrix of 3 x 64, twice over two steps."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 4, 3, bias=False), nn.Linear(64, 3)
            self.register_buffer("steps", torch.zeros(5, dtype=torch.int16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return sum(self.out(self.conv(x).flatten(1)) for _ in range(2))  # type: ignore[return-value]

    return FloatModel(module=Net(), prepare=lambda raw: torch.as_tensor(np.asarray(raw, dtype=np.float32)))


MACS = 2 * (4 * 9 * 16 + 3 * 64)


@pytest.fixture(scope="module")
def whole() -> Report:
    graph = graphs.chain(2)
    program = lower(graph, calibrate(graph, X), meta={"name": "chain"})
    return snn2chip.report(
        program, X, labels=np.zeros(70, int), float_graph=graph, float_model=small(), targets=("loihi1", "loihi2"),
        neurobench=4, sensitivity=8, board_power=50.0,
    )  # fmt: skip


def test_operations_and_bytes_by_hand() -> None:
    cost = float_cost(small(), X, arithmetic=load_target("ideal").energies.values(), device="cpu")
    assert cost.macs == MACS
    assert cost.parameters == 36 + 192 + 3
    assert cost.footprint == 4 * (36 + 192 + 3) + 2 * 5
    by = {e.model: e for e in cost.energies}
    assert by["alu-45nm"].joules.value == pytest.approx(MACS * 4.6e-12)
    assert by["h200"].joules.value == pytest.approx(MACS * 1.41e-12)
    assert cost.power is None
    assert [t.batch for t in cost.times] == [1, 64]
    for t in cost.times:
        assert 0 < t.sample.lo <= t.sample.value <= t.sample.hi
        assert t.repeats >= module.FEW
    assert cost.device == "cpu"
    assert "thread" in cost.where


def test_board_power_times_measured_seconds() -> None:
    cost = float_cost(small(), X[:3], device="cpu", board_power=50.0)
    assert [e.model for e in cost.energies] == ["board, batch 1", "board, batch 3"]
    for energy, t in zip(cost.energies, cost.times, strict=True):
        assert energy.joules.value == pytest.approx(50 * t.sample.value)
        assert energy.joules.hi == pytest.approx(50 * t.sample.hi)
        assert energy.scope == "total"
        assert energy.factors[0].each["source"] == "user"


@pytest.mark.parametrize(
    ("name", "watts"),
    [
        ("NVIDIA H200", 700),
        ("NVIDIA H100 80GB HBM3", 700),
        ("Orin Nano Super", 25),
        ("Quadro 2000", None),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GH200 480GB", None),
    ],
)
def test_boards_are_known_by_the_name_that_cuda_gives_them(name: str, watts: float | None) -> None:
    fact = module._power(name, None)
    assert (None if fact is None else fact.value) == watts
    assert all(f.source in module.SOURCES and f.confidence and f.unit == "W" for f in BOARDS.values())


def test_the_slowest_part_is_timed() -> None:
    """A model that sleeps 5 ms takes at least that long."""
    import time

    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.005)
            return x.flatten(1)

    cost = float_cost(FloatModel(module=Slow(), prepare=lambda raw: torch.as_tensor(raw)), X[:2], device="cpu")
    assert cost.times[0].sample.lo >= 0.005
    assert cost.times[1].sample.lo >= 0.0025  # two samples at once
    assert cost.macs == 0


def test_the_module_is_left_as_it_was() -> None:
    model = small()
    model.module.train()
    float_cost(model, X[:2], device="cpu")
    assert model.module.training
    assert {p.device.type for p in model.module.parameters()} == {"cpu"}


def test_both_sides_stand_in_one_table(whole: Report) -> None:
    found = whole.versus
    assert found is not None
    sides = {figure: {r.side for r in found.of(figure)} for figure in ("energy per sample", "latency")}
    assert sides == {"energy per sample": {"float model", "loihi1", "loihi2"},
                     "latency": {"float model", "loihi1", "loihi2"}}  # fmt: skip
    assert {r.side for r in found.of("accuracy")} == {"float model", "integer program"}
    (same,) = found.of("same class")
    assert same.value.value == whole.agreement
    (alike,) = found.of("spikes alike")
    assert whole.fidelity is not None
    assert alike.value.value == whole.fidelity["spike_agreement"]
    (memory,) = (r for r in found.of("parameters and states") if r.side == "float model")
    assert memory.value.value == found.float_side.footprint
    assert whole.costs is not None
    for target in whole.costs.targets:
        mine = [r for r in found.of("latency") if r.side == target.name]
        assert [r.value for r in mine] == [t.latency for t in target.timings]
        assert all(r.basis.startswith("modelled") for r in mine)
    assert all(r.basis == "measured" for r in found.of("latency") if r.side == "float model")


def test_every_constant_of_the_float_side_has_a_source(whole: Report) -> None:
    assert whole.versus is not None
    assert whole.costs is not None
    known = {**whole.costs.sources, **whole.versus.float_side.sources}
    for energy in whole.versus.float_side.energies:
        assert energy.formula.startswith("E = ")
        for factor in energy.factors:
            assert factor.each["confidence"]
            assert all(known.get(key.strip()) for key in factor.each["source"].split(","))


def test_neurobench_knows_the_float_models_bytes(whole: Report) -> None:
    assert whole.neurobench is not None
    assert whole.neurobench["FootprintFloatModel"] == small().footprint


def test_sensitivity_has_a_row_per_layer_and_width(whole: Report) -> None:
    assert whole.sensitivity is not None
    layers = {r.layer for r in whole.sensitivity}
    assert len(whole.sensitivity) == 4 * len(layers) > 8
    assert all(0 <= r.spikes <= 1 and 0 <= r.agreement <= 1 for r in whole.sensitivity)


def test_a_module_that_was_compiled_is_its_own_float_model() -> None:
    graph = graphs.chain(2)
    program = lower(graph, calibrate(graph, X))
    plain = snn2chip.report(program, X, float_graph=graph, targets=("loihi2",))
    assert plain.versus is None  # a graph alone has nothing to time
    assert plain.fidelity is not None
    with pytest.raises(InputError):
        snn2chip.report(program, X, float_graph="nothing", targets=("loihi2",))


def test_tables_of_the_terminal(whole: Report) -> None:
    from rich.console import Console

    from snn2chip.reports.tables import fidelity_table, versus_table

    assert whole.versus is not None
    assert whole.fidelity is not None
    screen = Console(width=160, record=True, file=io.StringIO())
    screen.print(versus_table(whole.versus))
    layers = [{**whole.fidelity["layers"][0], "trained": "exact"}, {**whole.fidelity["layers"][1], "trained": "2 bits"}]
    screen.print(fidelity_table({**whole.fidelity, "layers": layers}))
    text = screen.export_text()
    for word in ("board, batch 1", "measured", "modelled", "spikes alike", "2 bits", "exact"):
        assert word in text
    assert attrs.asdict(whole.versus.rows[0])["figure"] == "accuracy"
