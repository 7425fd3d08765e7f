"""Files: what is written is what is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from snn2chip.ir import files
from snn2chip.ir.program import Program
from snn2chip.registry import get_backend
from snn2chip.testing.cases import covering_cases
from snn2chip.testing.edges import edge_cases
from snn2chip.testing.programs import random_program


def reread(program: Program, path: Path) -> Program:
    files.write(path, program)
    return files.read(path)[0]


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_round_trip(seed: int, tmp_path: Path) -> None:
    case = random_program(9000 + seed, wide=True)
    again = reread(case.program, tmp_path / "a.s2c")
    assert again.digest() == case.program.digest()
    assert again.text() == case.program.text()
    assert [n.layer for n in again.nodes] == [n.layer for n in case.program.nodes]
    trace = get_backend("reference").run(again, case.coded)
    assert all((trace.payloads[k] == v).all() for k, v in case.expected.payloads.items())


def test_conformance_programs_round_trip(tmp_path: Path) -> None:
    for case in (*covering_cases(), *edge_cases()):
        again = reread(case.program, tmp_path / "a.s2c")
        assert again.digest() == case.program.digest()
        assert again.text() == case.program.text()


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    program = random_program(5).program
    files.write(tmp_path / "a.s2c", program)
    files.write(tmp_path / "b.s2c", files.read(tmp_path / "a.s2c")[0])
    assert (tmp_path / "a.s2c").read_bytes() == (tmp_path / "b.s2c").read_bytes()


def test_different_programs_have_different_digests() -> None:
    digests = [random_program(seed).program.digest() for seed in range(60)]
    assert len(set(digests)) == 60
