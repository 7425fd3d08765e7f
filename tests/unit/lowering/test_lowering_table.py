"""The page of the lowering table: one row per result, no empty cell, misses and refusals said."""

from __future__ import annotations

import attrs
import numpy as np
import torch
from snn2chip_models import build

from benchmarks.lowering.nets import METHODS, NETS
from benchmarks.lowering.page import COLUMNS, page
from benchmarks.lowering.random_weights import calibrate
from benchmarks.lowering.row import Row, read, shuffled, write
from benchmarks.lowering.run import RESULTS, ROWS, sound
from snn2chip.compiler import compile as compile_module
from snn2chip.nn.base import Neuron

ROW = Row(
    method="lmht",
    net="small",
    source="random, calibrated",
    options="L2 T2",
    bits="8, payload 2",
    rates=(0.1, 0.2),
    entropy=3.0,
    equal={"samples": 2, "torch": True, "lava": True, "compared": 1234},
    control={"torch": False},
    lava="6 Conv",
    seconds={"reference": 1.0, "torch": 0.1, "lava": 5.0},
)


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_row_has_every_cell() -> None:
    rows = [ROW, attrs.evolve(ROW, method="lif", error="UnsupportedError: no | form")]
    for line in cells(page(rows)):
        assert len(line) == len(COLUMNS), line
        assert all(line), line


def test_a_row_that_does_not_count_says_so() -> None:
    text = page([attrs.evolve(ROW, left_out="1.20 bits of entropy")])
    assert "does not count: 1.20 bits of entropy" in text


def test_a_difference_and_an_equal_control_are_not_sound() -> None:
    assert sound(ROW)
    assert not sound(attrs.evolve(ROW, equal={**ROW.equal, "lava": False}))
    assert not sound(attrs.evolve(ROW, control={"torch": True}))
    assert not sound(attrs.evolve(ROW, error="QuantizeError: x"))
    assert "**different**" in page([attrs.evolve(ROW, equal={**ROW.equal, "lava": False})])


def test_a_row_is_complete_with_every_cell() -> None:
    full = attrs.evolve(ROW, forced=99.0, extra_mb=12.0)
    assert full.complete
    for lacking in ({"forced": -1.0}, {"extra_mb": -1.0}, {"error": "QuantizeError: x"}, {"left_out": "1 bit"}):
        assert not attrs.evolve(full, **lacking).complete


def test_the_table_in_the_repository_is_whole() -> None:
    """Thirty rows that count, all sound, every cell filled; the page is made of them."""
    rows = [row for name in ROWS if (row := read(RESULTS / f"{name}.json")) is not None]
    assert len(rows) == len(NETS) * len(METHODS) == 30
    assert all(row.complete and sound(row) for row in rows)
    text = (RESULTS.parents[1] / "lowering.md").read_text()
    assert text == page(rows)
    assert "to be measured" not in text
    assert "does not count:" not in text


def test_results_are_kept_as_they_are(tmp_path) -> None:  # type: ignore[no-untyped-def]
    write(ROW, tmp_path / "a" / "row.json")
    found = read(tmp_path / "a" / "row.json")
    assert found is not None
    assert attrs.asdict(found) == {**attrs.asdict(ROW), "rates": list(ROW.rates)}
    assert read(tmp_path / "none.json") is None


def test_calibrated_weights_fire_at_the_rate() -> None:
    """Measured by hooks on the neurons of a residual net, on the pictures that set the weights."""
    torch.manual_seed(0)
    model = build("resnet20", activation="lif", T=2, input_shape=[3, 16, 16]).eval()
    x = torch.randn(16, 3, 16, 16)
    with torch.no_grad():
        calibrate(model, x, rate=0.2)
        rates: list[float] = []
        for module in model.modules():
            if isinstance(module, Neuron):
                module.register_forward_hook(lambda m, given, out: rates.append(float((out != 0).float().mean())))
        logits = model(x)
    assert len(rates) == 19
    assert min(rates) > 0.15
    assert max(rates) < 0.25
    assert logits.mean(0).abs().max() < 1e-3


def test_a_shuffled_program_differs_in_one_layer_s_order_only() -> None:
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    program = compile_module(build("digits-cnn", T=2).eval(), x)
    other = shuffled(program)
    changed = [a for a, b in zip(program.synapses, other.synapses, strict=True) if (a.weight != b.weight).any()]
    assert len(changed) == 1
    assert (np.sort(other[changed[0].name].weight, axis=None) == np.sort(changed[0].weight, axis=None)).all()
