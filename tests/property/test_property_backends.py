"""Random programs: every backend and both witnesses give the reference's integers on all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from snn2chip.errors import BackendUnavailable
from snn2chip.registry import get_backend
from snn2chip.testing.activity import activity
from snn2chip.testing.cases import Case
from snn2chip.testing.conformance import check_case
from snn2chip.testing.factors import neuron_space, soma_space
from snn2chip.testing.levels import program_pairs
from snn2chip.testing.machine import Machine
from snn2chip.testing.programs import programs, random_program
from snn2chip.testing.soak import main, soak
from snn2chip.testing.witness import Witness

COUNT = int(os.environ.get("SNN2CHIP_RANDOM_PROGRAMS", "500"))


def on_random_programs(count: int, judge: Callable[[Case], None], **options: Any) -> list[Case]:
    """Run `judge` on `count` Hypothesis programs (the same ones every time) and return them."""
    seen: list[Case] = []

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(programs(**options))
    def each(case: Case) -> None:
        seen.append(case)
        judge(case)

    each()
    assert len(seen) >= count
    return seen


def test_torch_equals_reference_and_the_programs_are_worth_it() -> None:
    """At least 500 programs; every legal pair of soma levels is met, most neurons fire, ties and limits are met.

    Hypothesis draws most of them and shrinks a failure; those of plain seeds are spread more evenly.
    """
    torch = get_backend("torch")
    seen = on_random_programs(COUNT * 3 // 5, lambda case: check_case(torch, case), wide=True)
    seen += [case for group in soak(torch, programs=COUNT * 2 // 5) for case in group]
    assert len(seen) >= COUNT
    met = set().union(*(program_pairs(case.program) for case in seen))
    assert soma_space().pairs() - met == set()
    wanted = neuron_space().pairs()
    assert len(wanted - met) <= len(wanted) // 200, sorted(wanted - met)
    found = activity(seen[::3])
    assert found.fired_share >= 0.3, found
    for kind in ("tie", "saturation", "wrap", "floor", "clip"):
        assert found.share(kind) >= 0.05, (kind, found)
    shapes = {len(case.program.shapes[s.name]) for case in seen for s in case.program.somas}
    assert shapes == {1, 2, 3}
    assert any(e.delay for case in seen for e in case.program.edges)


def test_witness_equals_reference() -> None:
    """The scalar re-implementation in logical time."""
    witness = Witness()
    on_random_programs(150, lambda case: check_case(witness, case), wide=True)


def test_machine_time_equals_logical_time() -> None:
    """The schedule's skews, buffers and stretches, executed machine step by machine step."""
    machine = Machine()
    seen = on_random_programs(100, lambda case: check_case(machine, case))
    assert any(machine.plan(case.program).stretch > 1 for case in seen)
    assert any(machine.plan(case.program).buffered_words for case in seen)


@pytest.mark.lava
def test_lava_equals_reference() -> None:
    """Random programs as Lava processes, several in one runtime."""
    groups = list(soak(get_backend("lava"), programs=24, first_seed=4000, together=24))
    cases = [case for group in groups for case in group]
    assert len(cases) == 24
    assert activity(cases).fired_share >= 0.3


def test_seeds_give_the_same_program() -> None:
    first, again, other = random_program(11), random_program(11), random_program(12)
    assert first.program.digest() == again.program.digest() != other.program.digest()
    assert all((first.coded[k] == v).all() for k, v in again.coded.items())


def test_a_difference_names_the_seed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from snn2chip.testing import soak as module
    from snn2chip.testing.faults import FAULTS

    monkeypatch.setattr(module, "get_backend", lambda name, **options: Witness(FAULTS["LeakFloors"]()))
    assert main(["--programs", "40", "--together", "4"]) == 1
    assert "random program of seed " in capsys.readouterr().out
    monkeypatch.setattr(module, "get_backend", lambda name, **options: Witness())
    assert main(["--programs", "6", "--together", "4"]) == 0
    assert "6 programs equal to the reference" in capsys.readouterr().out


def test_without_hypothesis_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(BackendUnavailable, match=r"pip install hypothesis"):
        programs()
    assert random_program(1).program.nodes
