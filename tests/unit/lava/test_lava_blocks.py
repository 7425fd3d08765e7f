"""The layouts `layer` and `fused` are exact: all conformance programs and many random ones, without Lava itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snn2chip_backends.lava.blocks import partition
from snn2chip_backends.lava.net.machine.maps import make_map
from snn2chip_backends.lava.numbers import smallest, soma_bound, wire_type

from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import PayloadType
from snn2chip.registry import get_backend
from snn2chip.testing.conformance import check_case, run_conformance
from snn2chip.testing.programs import random_program

sys.path.insert(0, str(Path(__file__).parent))
from dry import DryLava


@pytest.mark.parametrize(("layout", "batch"), [("layer", 1), ("layer", 3), ("fused", 1), ("fused", 3)])
def test_every_conformance_program_is_exact(layout: str, batch: int) -> None:
    report = run_conformance(DryLava(layout=layout, batch=batch))
    report.raise_if_failed()
    assert len(report.results) > 100


@pytest.mark.parametrize(("layout", "batch"), [("layer", 2), ("fused", 1)])
def test_random_programs_are_exact(layout: str, batch: int) -> None:
    numbers: set[str] = set()
    backend = DryLava(layout=layout, batch=batch)
    for seed in range(120):
        case = random_program(7000 + seed, wide=True)
        check_case(backend, case)
        for item in backend.plan(case.program).data["processes"]:
            numbers |= {part["number"] for key in ("somas", "currents") for part in item["args"].get(key, ())}
    assert numbers >= {"float32", "float64"}
