"""The layouts `layer` and `fused` on real Lava processes equal the reference and, through it, the layout `stock`.

The arithmetic is compared on all conformance programs without Lava in `tests/unit/lava/test_lava_blocks.py`; here a
covering part of it runs with Lava's messages, its barrier and its asynchronous conversion.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn2chip.errors import InputError
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import get_backend
from snn2chip.testing.conformance import cases

sys.path.insert(0, str(Path(__file__).parent))
from test_lava_programs import chain, edge_pairs, equal_on_lava, random_inputs, structures

pytestmark = [pytest.mark.lava, pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="lava-nc needs Python 3.10")]
NOTE = {"layer": "one own process per layer", "fused": "a fast mode, not an independent oracle"}


def some_cases(offset: int) -> dict[str, Any]:
    """Every sixteenth conformance program."""
    return {case.name: (case.program, case.coded) for case in list(cases())[offset::16]}


@pytest.mark.parametrize(
    ("layout", "mode", "batch", "offset"),
    [("layer", "sync", 1, 2), ("layer", "async", 3, 6), ("fused", "sync", 3, 9), ("fused", "async", 1, 13)],
)
def test_structures_and_a_part_of_the_conformance_programs(layout, mode, batch, offset):
    pairs = structures() | some_cases(offset)
    traces = equal_on_lava(pairs, silent=some_cases(offset), layout=layout, mode=mode, batch=batch)
    for trace in traces.values():
        assert trace.notes == [n for n in trace.notes if NOTE[layout] in n] != []
        assert trace.info["lava_layout"] == layout
        assert set(trace.potentials) == set(trace.payloads)
    assert traces["chain"].info["machine_steps"] == (3 + 3 * 3 if batch == 1 else 3 + 3)


def test_currents_and_potentials_at_the_ends_with_a_batch_that_is_not_full():
    """Five samples in batches of two: what fills the third batch is neither recorded nor counted."""
    pairs = edge_pairs()
    soma = Soma("s", 2, gain=1 << 14, theta=1 << 22, levels=1, reset="subtract")
    saturating = Program(
        nodes=[Input("x", 2, -255, 255), Synapse("w", weight=[[127, 3], [-127, 5]]), soma, Output("o", "payload")],
        edges=[("x", "w"), ("w", "s"), ("s", "o")],
        steps=4,
    )
    pairs["saturating"] = (saturating, {"x": np.tile(np.array([[255, 255], [-255, 0], [254, 2]]), (4, 1, 1))})
    traces = equal_on_lava(pairs, layout="layer", batch=2, mode="async")
    assert traces["saturating"].counts.totals["saturations"] > 10


def test_more_streams_than_one_sink_has_ports():
    rng = np.random.default_rng(4)
    nodes: list[Any] = [Input("x", 3, 0, 3)]
    edges: list[Any] = []
    for i in range(18):
        nodes += [Synapse(f"w{i}", weight=rng.integers(-8, 8, (4, 3))), Soma(f"s{i}", 4, theta=2, levels=3, bias=1)]
        edges += [("x", f"w{i}"), (f"w{i}", f"s{i}")]
    program = Program(nodes=[*nodes, Output("o", "payload")], edges=[*edges, ("s17", "o")], steps=2)
    inputs = random_inputs(rng, program, 4)
    trace = equal_on_lava({"wide": (program, inputs)}, layout="layer")["wide"]
    assert trace.info["processes"] == 1 + 18 + 3
    assert trace.info["batch"] == 4
    short = get_backend("lava", layout="fused", batch=3).run(program, inputs, record="outputs")
    assert (short.payloads, short.potentials, short.inputs) == ({}, {}, {})
    assert (short.outputs == trace.outputs).all()
    assert short.counts.totals == trace.counts.totals


def test_batches_back_to_back_are_re_initialised_on_time():
    rng = np.random.default_rng(2)
    program = chain(rng, 3)
    one = random_inputs(rng, program, 4)["x"]
    inputs = {"x": np.tile(one, (1, 25, 1, 1, 1))}
    trace = equal_on_lava({"chain": (program, inputs)}, layout="fused", batch=8, mode="async")["chain"]
    assert (trace.outputs.reshape(25, 4, 5) == trace.outputs[:4]).all()
    assert trace.info["machine_steps"] == 3 + 3 * 13


def test_options_that_do_not_go_together_are_refused():
    for options, words in (
        ({"layout": "rows"}, "stock, layer, fused"),
        ({"layout": "stock", "batch": 4}, "one sample at a time"),
        ({"layout": "layer", "batch": 0}, "at least 1"),
        ({"layout": "fused", "stock": False}, "chooses processes of the layout 'stock'"),
    ):
        with pytest.raises(InputError, match=words):
            get_backend("lava", **options)
