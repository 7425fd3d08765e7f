"""Backend equality: every payload of every soma at every logical step, and every read-out potential.

The first divergence is the earliest in data-flow order within the earliest logical step of the lowest
sample at which two traces differ, so that it names a cause and not a consequence. A windowed soma and all
behind it come after the whole sample that the soma has to see first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from snn2chip.errors import InputError, MismatchError
from snn2chip.ir.nodes import describe
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import Backend
from snn2chip.trace import Trace


@attrs.frozen(kw_only=True)
class Divergence:
    """The first place where two traces differ.

    `step` is the logical step (T-1 for a read-out potential), `index` the neuron's index in the soma's shape,
    `what` is `payload`, `potential` or `output`. `v`, `theta`, `current` are seen by the reference arithmetic on
    each side's own incoming payloads: `v` after reset at this step, `current` the summed (and mixed) current that
    this program's weights make of the payloads recorded on each side (a trace from elsewhere may have had others).
    """

    soma: str
    layer: str
    sample: int
    step: int
    index: tuple[int, ...]
    what: str
    expected: int
    got: int
    expected_by: str
    got_by: str
    v: tuple[int | None, int | None] = (None, None)
    theta: int | None = None
    current: tuple[int | None, int | None] = (None, None)

    def __str__(self) -> str:
        where = f"{self.soma}" + (f" ({self.layer})" if self.layer else "")
        text = (
            f"first divergence: {self.what} of {where}, sample {self.sample}, step {self.step}, "
            f"index {list(self.index)}: {self.expected_by} has {self.expected}, {self.got_by} has {self.got}"
        )
        if self.current != (None, None):
            a, b = self.current
            text += f"; incoming current {a} / {b} (each side's payloads, this program's weights)"
        if self.v != (None, None):
            text += f", v after reset {self.v[0]} / {self.v[1]}"
        return text + (f", theta {self.theta}" if self.theta is not None else "")

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class CheckResult:
    """Result of a check: `equal`, how many integers were compared, and the first divergence if any."""

    equal: bool
    compared: int
    backends: tuple[str, ...]
    first: Divergence | None = None
    notes: tuple[str, ...] = ()
    traces: Mapping[str, Trace] = attrs.field(factory=dict, repr=False)

    def raise_if_different(self) -> None:
        """Raise MismatchError naming the first divergence."""
        if not self.equal:
            raise MismatchError(str(self.first))

    def _repr_html_(self) -> str:
        from snn2chip.reports.snippets import check_snippet

        return check_snippet(self)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form: equal, compared, backends, first, notes."""
        first = None if self.first is None else self.first.as_dict()
        return {
            "equal": self.equal,
            "compared": self.compared,
            "backends": list(self.backends),
            "first": first,
            "notes": list(self.notes),
        }


def check(
    program: Program,
    inputs: Any,
    *,
    backends: Sequence[str | Backend] = ("reference", "torch", "lava"),
    time_axis: bool = False,
    device: str | None = None,
) -> CheckResult:
    """Run `program` on every backend and compare everything with `==`.

    The first backend named is the expected side (put "reference" first); a backend made with options of its own
    may stand for its name. Raises InputError for fewer than two backends, BackendUnavailable or UnsupportedError if
    one cannot run the program here.
    """
    from snn2chip.api import run

    if isinstance(backends, str):
        backends = tuple(name.strip() for name in backends.split(","))
    ready = ready_pair(backends, program, device)
    traces = {b.name: run(program, inputs, backend=b, time_axis=time_axis) for b in ready}
    return compare(program, list(traces.values()))


def ready_pair(backends: Sequence[str | Backend], program: Program, device: str | None) -> list[Backend]:
    """`ready_backends` of at least two, each named once; InputError for others."""
    names = [b if isinstance(b, str) else b.name for b in backends]
    if len(names) < 2 or len(set(names)) != len(names):
        raise InputError(f"a check needs at least two different backends, got {', '.join(names) or 'none'}")
    return ready_backends(backends, program, device)


def ready_backends(backends: Sequence[str | Backend], program: Program, device: str | None) -> list[Backend]:
    """The backends, or a clear error why one cannot run this program here; `device` is for torch."""
    from snn2chip.api import ready_backend

    return [ready_backend(b, program, device=device if b == "torch" else None) for b in backends]


def compare(program: Program, traces: Sequence[Trace]) -> CheckResult:
    """Compare every later trace with the first one; stops at the first trace that differs."""
    expected, compared = traces[0], 0
    notes = [note for trace in traces for note in trace.notes]
    first: Divergence | None = None
    for got in traces[1:]:
        count, first = compare_pair(program, expected, got)
        compared += count
        if first is not None:
            break
    return CheckResult(
        equal=first is None,
        compared=compared,
        backends=tuple(t.backend for t in traces),
        first=first,
        notes=tuple(dict.fromkeys(notes)),
        traces={t.backend: t for t in traces},
    )


def compare_pair(program: Program, expected: Trace, got: Trace) -> tuple[int, Divergence | None]:
    """Number of integers compared and the first divergence between two traces of one program."""
    compared = 0
    found: tuple[tuple[int, int, int], str, str, tuple[int, ...]] | None = None
    readouts = {program.into[o.name][0].src for o in program.outputs if o.read == "potential"}
    passed = _windows_passed(program)
    for rank, soma in enumerate(program.somas):
        for what, field in (("payload", "payloads"), ("potential", "potentials")):
            a, b = getattr(expected, field).get(soma.name), getattr(got, field).get(soma.name)
            if a is None or b is None or (what == "potential" and soma.name not in readouts):
                continue
            if a.shape != b.shape:
                raise InputError(f"{describe(soma)}: {what}s {b.shape} of {got.backend}, expected {a.shape}")
            if what == "potential":
                a, b = a[-1:], b[-1:]
            compared += a.size
            different = np.argwhere(a != b)
            if len(different) == 0:
                continue
            t, n, *index = min(map(tuple, different), key=lambda i: (i[1], i[0], i[2:]))
            step = int(program.steps - 1 if what == "potential" else t)
            key = (int(n), passed[soma.name] * program.steps + step, rank)
            if found is None or key < found[0]:
                found = (key, soma.name, what, (step, *(int(i) for i in index)))
    if found is not None:
        return compared, _divergence(program, expected, got, *found)
    for name in expected.all_outputs:
        a, b = expected.all_outputs[name], got.all_outputs.get(name)
        if b is None:
            continue
        compared += a.size
        if a.shape != b.shape or (a != b).any():
            return compared, _output_divergence(program, expected, got, name)
    return compared, None


def _windows_passed(program: Program) -> dict[str, int]:
    """Windowed somas on the longest way to each node, itself included."""
    passed = {node.name: 0 for node in program.nodes}
    for _ in range(2):  # the second round carries counts along delayed edges
        for node in program.order:
            before = max((passed[edge.src] for edge in program.into[node.name]), default=0)
            passed[node.name] = before + (getattr(node, "window", None) is not None)
    return passed


def _divergence(
    program: Program,
    expected: Trace,
    got: Trace,
    key: tuple[int, int, int],
    name: str,
    what: str,
    place: tuple[int, ...],
) -> Divergence:
    from snn2chip.checks.explain import currents_at

    sample, (step, *rest) = key[0], place
    index = tuple(rest)
    soma = program[name]
    assert isinstance(soma, Soma)
    field = "payloads" if what == "payload" else "potentials"
    at = (step, sample, *index)
    values = [int(getattr(t, field)[name][at]) for t in (expected, got)]
    potentials = [t.potentials.get(name) for t in (expected, got)]
    v = [None if x is None else int(x[at]) for x in potentials]
    current = [currents_at(program, t, name, sample, step, index) for t in (expected, got)]
    theta = None
    if soma.theta is not None and soma.fire in ("levels", "excess"):
        rows = soma.theta[0] if soma.ladder else soma.theta[step if soma.theta.shape[0] > 1 else 0]
        theta = int(np.broadcast_to(soma.spread(rows), soma.shape)[index])
    return Divergence(
        soma=name,
        layer=soma.layer,
        sample=sample,
        step=step,
        index=index,
        what=what,
        expected=values[0],
        got=values[1],
        expected_by=expected.backend,
        got_by=got.backend,
        v=(v[0], v[1]),
        theta=theta,
        current=(current[0], current[1]),
    )


def _output_divergence(program: Program, expected: Trace, got: Trace, name: str) -> Divergence:
    a, b = expected.all_outputs[name], got.all_outputs[name]
    if a.shape != b.shape:
        raise InputError(f"output {name}: {b.shape} from {got.backend}, expected {a.shape}")
    sample, index = (int(i) for i in np.argwhere(a != b)[0])
    soma = program.into[name][0].src
    return Divergence(
        soma=soma,
        layer=program[soma].layer,
        sample=sample,
        step=program.steps - 1,
        index=(index,),
        what="output",
        expected=int(a[sample, index]),
        got=int(b[sample, index]),
        expected_by=expected.backend,
        got_by=got.backend,
    )
