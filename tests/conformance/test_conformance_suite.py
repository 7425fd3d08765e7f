"""The conformance programs cover what they claim, and every backend gives the same integers on all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import pytest

from snn2chip.errors import InputError, MismatchError, UnsupportedError
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.registry import get_backend
from snn2chip.testing.activity import activity
from snn2chip.testing.cases import SUBJECT, Case, covering_cases, cross_cases, row_case
from snn2chip.testing.conformance import Mark, case_params, cases, check_case, run_conformance
from snn2chip.testing.factors import (
    PROGRAM_FACTORS,
    SOMA_FACTORS,
    SYNAPSE_FACTORS,
    full_space,
    soma_space,
)
from snn2chip.testing.levels import program_pairs, soma_levels, synapse_levels
from snn2chip.testing.machine import Machine
from snn2chip.testing.witness import Witness
from snn2chip.trace import Trace


def test_every_legal_pair_of_levels_is_covered() -> None:
    space = full_space()
    wanted = space.pairs()
    covered = set().union(*(space.pairs_of(case.row) for case in covering_cases()))
    assert wanted - covered == set()
    assert len(wanted) > 4000
    assert len(covering_cases()) < 130


@pytest.mark.parametrize("case", covering_cases(), ids=str)
def test_programs_realise_their_rows(case: Case) -> None:
    """Read back from the finished program, so that a covered pair is a real one."""
    soma: Any = case.program[SUBJECT]
    assert soma_levels(soma) == {f: case.row[f] for f in SOMA_FACTORS}
    node: Any = case.program["synapse"]
    others = [case.program.shapes[e.src] for e in case.program.into["synapse"]]
    levels = synapse_levels(node, case.program.shapes["synapse"], others)
    if case.row["kind"] == "sumpool":  # groups do not exist there
        levels["groups"] = case.row["groups"]
    assert levels == {f: case.row[f] for f in SYNAPSE_FACTORS}
    assert case.program.steps == int(case.row["steps"])
    assert {a.shape[1] for a in case.coded.values()} == {int(case.row["batch"])}


def test_legal_pairs_by_hand() -> None:
    """Spot checks of what is legal: a table without drop is not, a ladder with a synaptic current is."""
    pairs = full_space().pairs()
    assert (("fire", "table"), ("reset", "subtract")) not in pairs
    assert (("theta", "nonpositive"), ("reset", "subtract")) not in pairs
    assert (("reset", "subtract"), ("theta", "nonpositive")) not in pairs
    assert (("ladder", "yes"), ("syn_leak", "decay")) in pairs
    assert (("ladder", "yes"), ("reset", "subtract")) not in pairs
    assert (("fire", "excess"), ("reset", "clamp")) in pairs
    assert (("window", "exact"), ("structure", "recurrent")) not in pairs
    assert {f for pair in pairs for f, _ in pair} == {*SOMA_FACTORS, *SYNAPSE_FACTORS, *PROGRAM_FACTORS}


def test_full_cross_has_every_pair_of_soma_levels() -> None:
    covered = set().union(*(program_pairs(case.program) for case in cross_cases()))
    # one step per sample is not in the cross, which runs three
    assert soma_space().pairs() - covered == set()


def test_programs_are_not_silent() -> None:
    """At least 30 % of the somas fire, exact ties and saturation each in at least 5 % of the programs."""
    found = activity(cases())
    assert found.fired_share >= 0.3, found
    for kind in ("tie", "saturation", "wrap", "floor", "clip"):
        assert found.share(kind) >= 0.05, (kind, found)


def test_the_programs_are_always_the_same() -> None:
    first = covering_cases()
    for i in (0, 17, 55):
        again = row_case(i, first[i].row)
        assert again.program.digest() == first[i].program.digest()
        assert all((again.coded[k] == v).all() for k, v in first[i].coded.items())


@pytest.mark.parametrize("backend", [Witness(), Machine()], ids=lambda b: b.name)
def test_second_witnesses_agree_with_the_reference(backend: Any) -> None:
    """Scalar integers in logical time, and in machine time by the schedule."""
    report = run_conformance(backend)
    report.raise_if_failed()
    assert len(report.results) >= 90


def test_reference_covering_with_outputs_only() -> None:
    """The same through `record="outputs"`, and the report in one line."""
    report = run_conformance(get_backend("reference"))
    assert report.ok
    assert str(report).startswith(f"reference (covering): {len(report.results)} equal; ")
    assert report.results[0].compared > 0


def test_torch_full_cross() -> None:
    report = run_conformance(get_backend("torch"), level="full")
    report.raise_if_failed()
    assert sum(r.compared for r in report.results) > 100_000


def test_torch_blocks_of_one_sample() -> None:
    """Samples are independent: one at a time gives the same as all together."""
    torch = get_backend("torch")
    for case in covering_cases()[::6]:
        parts = [
            torch.run(case.program, {k: v[:, b : b + 1] for k, v in case.coded.items()})
            for b in range(int(case.row["batch"]))
        ]
        for name, payload in case.expected.payloads.items():
            assert (np.concatenate([p.payloads[name] for p in parts], axis=1) == payload).all(), case


@pytest.mark.cuda
def test_cuda_covering() -> None:
    run_conformance(get_backend("torch", device="cuda")).raise_if_failed()


@pytest.mark.lava
def test_lava_covering() -> None:
    """Every Lava process kind, many programs side by side in one network."""
    report = run_conformance(get_backend("lava"), group=200)
    report.raise_if_failed()


@pytest.mark.lava
def test_lava_outputs_only() -> None:
    """Without traces the outputs (counts, sums and potentials) are the same."""
    some = list(covering_cases()[4::11])
    assert {o.read for case in some for o in case.program.outputs} == {"potential", "count", "payload"}
    backend: Any = get_backend("lava")
    traces = backend.run_many([(case.program, case.coded) for case in some], record="outputs")
    for case, trace in zip(some, traces, strict=True):
        for name, want in case.expected.all_outputs.items():
            assert (trace.all_outputs[name] == want).all(), (case, name)


# the suite itself


@attrs.define
class Picky(Witness):
    """A right backend that refuses windows (and says so), or claims that it does."""

    refuses: bool = True
    name: str = "picky"

    def __attrs_post_init__(self) -> None:
        super().__init__(name="picky")

    def limits(self, program: Program) -> list[str]:
        windows = [s.name for s in program.somas if s.window is not None]
        return [f"{name}: no windows here" for name in windows] if self.refuses else []


def test_a_refusal_needs_a_mark() -> None:
    report = run_conformance(Picky())
    assert not report.ok
    assert all("refused: " in text for text in report.failures)
    marks = [Mark(when={"window": w}, reason="no windows") for w in ("exact", "shifted")]
    edges = [Mark(when={"edge": e}, reason="no windows") for e in _windowed_edges()]
    assert run_conformance(Picky(), marks=marks + edges).ok
    with pytest.raises(MismatchError, match="no windows here"):
        report.raise_if_failed()


def _windowed_edges() -> list[str]:
    found = [c for c in cases() if "edge" in c.row and any(s.window is not None for s in c.program.somas)]
    assert len(found) >= 3
    return [c.row["edge"] for c in found]


def test_a_mark_that_is_no_longer_true_fails() -> None:
    report = run_conformance(Picky(refuses=False), marks=[Mark(when={"window": "exact"}, reason="no windows")])
    assert {"equal, but marked 'no windows'; remove the mark" in text for text in report.failures} == {True}


def test_a_mark_about_nothing_fails() -> None:
    report = run_conformance(Picky(refuses=False), marks=[Mark(when={"kind": "fft"}, reason="no FFT")])
    assert report.failures == ["mark 'no FFT' matches no case; remove it"]


class Crashing(Witness):
    """Raises on recurrent programs and forgets to record them otherwise."""

    name = "crashing"

    def run(self, program: Program, inputs: Mapping[str, IntArray], *, record: str = "all") -> Trace:
        if any(e.delay for e in program.edges):
            raise UnsupportedError("no delays")
        trace = super().run(program, inputs, record=record)
        trace.payloads.pop(SUBJECT, None)
        return trace


def test_errors_and_missing_payloads_are_failures() -> None:
    report = run_conformance(Crashing())
    status = {r.case: r.status for r in report.results}
    assert status["edge-past-times-present"] == "error"
    assert status[covering_cases()[0].name] in ("different", "error")
    assert any("no payloads recorded of subject" in text for text in report.failures)


class Grouped(Witness):
    """Runs programs together and gets one of them wrong."""

    name = "grouped"
    fails: str | None = None

    def run_many(self, pairs: list[tuple[Program, Mapping[str, IntArray]]]) -> list[Trace]:
        if any(p.name == self.fails for p, _ in pairs):
            raise RuntimeError("one of them")
        return [self.run(p, inputs) for p, inputs in pairs]


def test_programs_run_in_groups_and_a_failing_group_one_by_one() -> None:
    backend = Grouped()
    assert run_conformance(backend, group=30).ok
    backend.fails = covering_cases()[3].name
    assert run_conformance(backend, group=30).ok  # each of them alone is right


def test_wrong_counts_are_found() -> None:
    class Miscounting(Witness):
        def run(self, program: Program, inputs: Mapping[str, IntArray], *, record: str = "all") -> Trace:
            trace = get_backend("reference").run(program, inputs, record=record)
            trace.counts = trace.counts + trace.counts
            return trace

    report = run_conformance(Miscounting(), stop_at_first=True)
    assert report.failures
    assert "counts of in" in report.failures[0]


def test_wrong_outputs_only_are_found() -> None:
    class Brief(Witness):
        def run(self, program: Program, inputs: Mapping[str, IntArray], *, record: str = "all") -> Trace:
            trace = super().run(program, inputs, record=record)
            if record == "outputs":
                trace.all_outputs = {k: v + 1 for k, v in trace.all_outputs.items()}
            return trace

    report = run_conformance(Brief(), stop_at_first=True)
    assert 'with record="outputs"' in report.failures[0]


@pytest.mark.parametrize("case", case_params(marks=[Mark(when={"batch": "5"}, reason="one sample at a time")])[:6])
def test_pytest_parameters_mark_expected_failures(case: Case) -> None:
    """`case_params` in use: a backend that takes one sample fails exactly where it is marked."""

    class OneSample(Witness):
        def run(self, program: Program, inputs: Mapping[str, IntArray], *, record: str = "all") -> Trace:
            if next(iter(inputs.values())).shape[1] > 1:
                raise UnsupportedError("one sample at a time")
            return super().run(program, inputs, record=record)

    check_case(OneSample(), case)


def test_unknown_level_and_absent_backend() -> None:
    with pytest.raises(InputError, match="covering, full"):
        list(cases("everything"))

    class Absent(Witness):
        def missing(self) -> str | None:
            return "no such machine"

    with pytest.raises(InputError, match="no such machine"):
        run_conformance(Absent())
