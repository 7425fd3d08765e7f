"""What a compiled program says of its registers: proven, calibrated, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from snn2chip.analysis.proofs import range_summary, range_table, with_proofs
from snn2chip.cli.command import app
from snn2chip.compiler import compile_float_graph
from snn2chip.errors import ProgramError
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.testing import graphs

X = np.random.default_rng(0).integers(0, 16, (30, 1, 6, 6))


def single(hi: int, *, weight: int = 1, target: str = "loihi2", exponent: int = 0, **fields: object) -> Program:
    soma = Soma("n", (2,), **{"theta": 4, **fields})  # type: ignore[arg-type]
    nodes = [Input("x", (2,), 0, hi, coding="steps"), Synapse("w", "identity", weight, exponent=exponent), soma]
    edges = [("x", "w"), ("w", "n"), ("n", "o")]
    return Program(nodes=[*nodes, Output("o", "payload")], edges=edges, steps=2, target=target)


def test_a_compiled_network_says_of_every_soma_what_is_known() -> None:
    program = compile_float_graph(graphs.chain(3), X)
    table = range_table(program)
    assert set(table) == set(program.meta["ranges"]) == {s.name for s in program.somas}
    assert {row["status"] for row in table.values()} <= {"proven", "calibrated"}
    assert "calibrated" in {row["status"] for row in table.values()}  # fraction bits fill the register on this data
    small = single(7)
    assert range_table(small)["n"] == {"status": "proven", "current": [0, 7], "potential": [0, 10], "payload": [0, 1]}
    assert range_summary(small) == "1 of 1 somas proven (no saturation, currents in 24 bits)"


def test_proven_ends_exactly_where_the_register_does() -> None:
    for v_init, status in ((1, "proven"), (2, "not proven")):
        program = single((1 << 23) - 2, v_init=v_init, reset="zero", theta=1)
        assert range_table(program)["n"]["status"] == status
    calibrated = with_proofs(single((1 << 23) - 1, v_init=1), np.ones((2, 3, 2), np.int64))
    assert calibrated.meta["ranges"] == {"n": "calibrated"}
    assert "calibrated: n" in range_summary(calibrated)


def test_currents_beyond_24_bits_are_told_from_data_that_stays_below() -> None:
    program = single(255, exponent=16, theta=4)
    low, high = np.full((2, 3, 2), 127), np.full((2, 3, 2), 128)  # 127 * 2^16 < 2^23 = 128 * 2^16
    assert with_proofs(program, low).meta["ranges"] == {"n": "calibrated"}
    assert with_proofs(program, high).meta["ranges"] == {"n": "current beyond 24 bits"}


def test_a_current_beyond_exact_arithmetic_is_no_program_even_before_a_window_of_zeros() -> None:
    nodes = [
        Input("x", (1,), 0, (1 << 24) - 1, coding="steps"),
        Synapse("w", "linear", [[127]], exponent=16),
        Soma("n", (1,), theta=1, window=np.zeros((2, 2))),
        Output("o", "payload"),
    ]
    with pytest.raises(ProgramError, match=r"n: before its window its current may reach \d+, beyond"):
        Program(nodes=nodes, edges=[("x", "w"), ("w", "n"), ("n", "o")], steps=2)


def test_inspect_prints_the_ranges(tmp_path: Path) -> None:
    compile_float_graph(graphs.chain(3), X).save(tmp_path / "p.s2c")
    text = CliRunner().invoke(app, ["inspect", str(tmp_path / "p.s2c")]).output
    assert "somas proven (no saturation, currents in 24 bits)" in text
    assert "  n1: calibrated; current" in text or "  n1: proven; current" in text
