"""Is a backend right? Run it on the deterministic test programs and compare every integer with the reference.

    from snn2chip.testing.conformance import run_conformance
    run_conformance(MyBackend()).raise_if_failed()

What a backend cannot do is named by a `Mark` with a reason, strictly: a marked case that runs and is equal is a
failure, and so is a refusal that no mark explains. Cases run side by side when the backend has
`run_many([(program, inputs), ...]) -> [Trace, ...]`, else one by one. In pytest:

    @pytest.mark.parametrize("case", case_params(marks=MARKS))
    def test_my_backend(case): check_case(MyBackend(), case)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from snn2chip.checks.compare import compare_pair
from snn2chip.errors import InputError, MismatchError, Snn2ChipError
from snn2chip.registry import Backend
from snn2chip.testing.cases import Case, covering_cases, cross_cases
from snn2chip.testing.edges import edge_cases
from snn2chip.trace import Trace

LEVELS = ("covering", "full")
CRASHES = (Snn2ChipError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a backend may raise that counts as a failure of the case and not of the suite."""


@attrs.frozen(kw_only=True)
class Mark:
    """Something a backend cannot do: the cases whose row has all levels of `when`, and the reason."""

    when: Mapping[str, str]
    reason: str

    def covers(self, case: Case) -> bool:
        """Whether this mark speaks about `case`."""
        return all(case.row.get(factor) == level for factor, level in self.when.items())


@attrs.frozen(kw_only=True)
class CaseResult:
    """One case on one backend; `status` is equal, different, refused (by `limits`) or error."""

    case: str
    status: str
    detail: str = ""
    mark: str | None = None
    compared: int = 0
    seconds: float = 0.0

    @property
    def failure(self) -> str | None:
        """Why this result is not acceptable, or None."""
        if self.status == "equal":
            return None if self.mark is None else f"{self.case}: equal, but marked {self.mark!r}; remove the mark"
        if self.mark is not None and self.status == "refused":
            return None
        return f"{self.case}: {self.status}: {self.detail}"


@attrs.frozen(kw_only=True)
class ConformanceReport:
    """All results of one backend; `failures` is empty when it conforms."""

    backend: str
    level: str
    results: tuple[CaseResult, ...]
    idle_marks: tuple[str, ...] = ()

    @property
    def failures(self) -> list[str]:
        """Everything that is wrong, one line each."""
        idle = [f"mark {reason!r} matches no case; remove it" for reason in self.idle_marks]
        return [r.failure for r in self.results if r.failure is not None] + idle

    @property
    def ok(self) -> bool:
        """Whether the backend conforms."""
        return not self.failures

    def raise_if_failed(self) -> None:
        """Raise MismatchError with every failure."""
        if self.failures:
            lines = "\n".join(f"  - {text}" for text in self.failures)
            raise MismatchError(f"backend {self.backend!r} fails {len(self.failures)} cases:\n{lines}")

    def __str__(self) -> str:
        count = {s: sum(r.status == s for r in self.results) for s in ("equal", "different", "refused", "error")}
        seconds = sum(r.seconds for r in self.results)
        compared = sum(r.compared for r in self.results)
        told = ", ".join(f"{n} {status}" for status, n in count.items() if n)
        return f"{self.backend} ({self.level}): {told}; {compared} integers compared in {seconds:.1f} s"


def cases(level: str = "covering") -> Iterator[Case]:
    """The test programs: `covering` (pairwise and hand-made edges, about a hundred), or `full`.

    `full` adds the full legal cross of what decides a soma's arithmetic. Raises InputError for another level.
    """
    if level not in LEVELS:
        raise InputError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    yield from covering_cases()
    yield from edge_cases()
    if level == "full":
        yield from cross_cases()


def run_conformance(
    backend: Backend,
    *,
    level: str = "covering",
    marks: Sequence[Mark] = (),
    group: int = 12,
    stop_at_first: bool = False,
) -> ConformanceReport:
    """Run `backend` on all cases of `level`; up to `group` cases side by side if it has `run_many`.

    Raises BackendUnavailable-like reasons as InputError when the backend cannot run here at all.
    """
    reason = backend.missing()
    if reason is not None:
        raise InputError(f"backend {backend.name!r} cannot run here: {reason}")
    results: list[CaseResult] = []
    used: set[str] = set()
    for batch in _groups(cases(level), group if hasattr(backend, "run_many") else 1):
        for case, result in zip(batch, _run_group(backend, batch), strict=True):
            mark = next((m.reason for m in marks if m.covers(case)), None)
            used |= {mark} if mark is not None else set()
            results.append(attrs.evolve(result, mark=mark))
        if stop_at_first and any(r.failure is not None for r in results):
            break
    idle = tuple(m.reason for m in marks if m.reason not in used) if not stop_at_first else ()
    return ConformanceReport(backend=backend.name, level=level, results=tuple(results), idle_marks=idle)


def check_case(backend: Backend, case: Case) -> None:
    """Run one case and raise MismatchError unless every integer is equal."""
    result = _run_group(backend, [case])[0]
    if result.status != "equal":
        raise MismatchError(f"{case.name}: {result.status}: {result.detail}")


def case_params(level: str = "covering", *, marks: Sequence[Mark] = ()) -> list[Any]:
    """pytest parameters, one per case; marked cases are strict expected failures with the mark's reason."""
    import pytest

    found = []
    for case in cases(level):
        reasons = [m.reason for m in marks if m.covers(case)]
        xfail = [pytest.mark.xfail(strict=True, reason=reasons[0])] if reasons else []
        found.append(pytest.param(case, id=case.name, marks=xfail))
    return found


def _groups(items: Iterator[Case], size: int) -> Iterator[list[Case]]:
    batch: list[Case] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _run_group(backend: Backend, batch: list[Case]) -> list[CaseResult]:
    refused = {case.name: "; ".join(backend.limits(case.program)) for case in batch}
    able = [case for case in batch if not refused[case.name]]
    found = {name: CaseResult(case=name, status="refused", detail=text) for name, text in refused.items() if text}
    many = getattr(backend, "run_many", None)
    start = time.perf_counter()
    if many is not None and len(able) > 1:
        try:
            traces = many([(case.program, case.coded) for case in able])
        except CRASHES:
            traces = None  # one of them fails: run them one by one to see which
        if traces is not None:
            share = (time.perf_counter() - start) / len(able)
            found.update({c.name: judge(c, t, seconds=share) for c, t in zip(able, traces, strict=True)})
    for case in able:
        if case.name not in found:
            found[case.name] = _run_one(backend, case)
    return [found[case.name] for case in batch]


def _run_one(backend: Backend, case: Case) -> CaseResult:
    start = time.perf_counter()
    try:
        trace = backend.run(case.program, case.coded)
        brief = backend.run(case.program, case.coded, record="outputs") if not hasattr(backend, "run_many") else trace
    except CRASHES as error:
        seconds = time.perf_counter() - start
        return CaseResult(case=case.name, status="error", detail=f"{type(error).__name__}: {error}", seconds=seconds)
    result = judge(case, trace, seconds=time.perf_counter() - start)
    unequal = _unequal_outputs(case.expected, brief)
    if result.status == "equal" and unequal:
        return attrs.evolve(result, status="different", detail=f'with record="outputs": {unequal}')
    return result


def judge(case: Case, trace: Trace, *, seconds: float = 0.0) -> CaseResult:
    """Compare one trace with what the reference says: payloads, potentials, outputs, counts."""
    expected = case.expected
    lacking = sorted(set(expected.payloads) - set(trace.payloads))
    compared, text = 0, f"no payloads recorded of {', '.join(lacking)}" if lacking else ""
    if not text:
        try:
            compared, first = compare_pair(case.program, expected, trace)
        except InputError as error:
            return CaseResult(case=case.name, status="different", detail=str(error), seconds=seconds)
        text = str(first) if first is not None else ""
    text = text or _unequal_potentials(expected, trace) or _unequal_outputs(expected, trace)
    text = text or _unequal_counts(expected, trace)
    status = "different" if text else "equal"
    return CaseResult(case=case.name, status=status, detail=text, compared=compared, seconds=seconds)


def _unequal_potentials(expected: Trace, got: Trace) -> str:
    for name, v in got.potentials.items():
        want = expected.potentials[name]
        if v.shape != want.shape or (v != want).any():
            return f"potentials of {name} differ from the reference"
    return ""


def _unequal_outputs(expected: Trace, got: Trace) -> str:
    for name, want in expected.all_outputs.items():
        have = got.all_outputs.get(name)
        if have is None or have.dtype != np.int64 or have.shape != want.shape or (have != want).any():
            return f"output {name} differs from the reference (or is not int64 {want.shape})"
    return ""


def _unequal_counts(expected: Trace, got: Trace) -> str:
    if got.counts is None:
        return ""
    for field in ("sources", "synapses", "products"):
        want, have = getattr(expected.counts, field), getattr(got.counts, field)
        for name, row in want.items():
            if row != have.get(name):
                return f"counts of {name}: {have.get(name)}, expected {row}"
    return ""
