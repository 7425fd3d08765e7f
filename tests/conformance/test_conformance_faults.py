"""The checks can fail: every seeded fault is found by the conformance suite."""

from __future__ import annotations

import pytest

from snn2chip.testing.conformance import run_conformance
from snn2chip.testing.faults import FAULTS, MACHINE_FAULTS
from snn2chip.testing.programs import random_program
from snn2chip.testing.rules import Rules
from snn2chip.testing.witness import Witness
from snn2chip.testing.worked import worked_examples


def test_there_are_enough_faults_and_each_changes_one_thing() -> None:
    assert len(FAULTS) >= 70
    assert len(MACHINE_FAULTS) >= 7
    own = [{m for m in vars(fault) if not m.startswith("__")} for fault in FAULTS.values()]
    assert all(1 <= len(methods) <= 2 for methods in own)
    assert all(methods <= set(dir(Rules)) for methods in own)


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found(name: str) -> None:
    report = run_conformance(Witness(FAULTS[name](), name=name), stop_at_first=True)
    assert not report.ok, FAULTS[name].__doc__
    assert report.results[-1].status == "different", "a fault gives wrong integers, it does not crash"


@pytest.mark.parametrize("name", MACHINE_FAULTS)
def test_machine_fault_is_found(name: str) -> None:
    report = run_conformance(MACHINE_FAULTS[name](), stop_at_first=True)
    assert not report.ok, MACHINE_FAULTS[name].__doc__


def test_random_programs_find_nearly_all_faults_too() -> None:
    """Not tuned to the faults: forty random programs alone find nine of ten."""
    cases = [random_program(seed) for seed in range(40)]
    unseen = []
    for name, fault in FAULTS.items():
        for case in cases:
            trace = Witness(fault()).run(case.program, case.coded)
            if any((trace.payloads[k] != v).any() for k, v in case.expected.payloads.items()):
                break
        else:
            unseen.append(name)
    assert len(unseen) <= len(FAULTS) // 10, unseen


def test_worked_examples_alone_miss_faults() -> None:
    """Why the suite exists: hand examples alone let some of these mistakes pass."""
    missed = []
    for name, fault in FAULTS.items():
        traces = [(e, Witness(fault()).run(e.program, e.coded())) for e in worked_examples()]
        if not any(e.wrong(trace) for e, trace in traces):
            missed.append(name)
    assert "PaddingWraps" in missed
    assert "LadderStrict" not in missed
