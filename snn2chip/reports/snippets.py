"""Short HTML for notebooks: a program, a report."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn2chip.checks.compare import CheckResult
    from snn2chip.ir.program import Program
    from snn2chip.reports.result import Report


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def program_snippet(program: Program) -> str:
    """Populations with shapes and what feeds them."""
    from snn2chip.ir.nodes import Synapse

    rows = []
    for node in (*program.inputs, *program.somas):
        fed = [program[e.src] for e in program.into[node.name]]
        via = ", ".join(f"{s.kind} {s.bits} bit" if isinstance(s, Synapse) else s.name for s in fed)
        kind = node.payload_type()
        rows.append((node.name, "x".join(map(str, node.shape)), via, f"{kind.lo}..{kind.hi}", node.layer))
    neurons = sum(s.size for s in program.somas)
    head = f"<b>{escape(program.name)}</b>: {neurons:,} neurons, T={program.steps}, {escape(program.digest()[:12])}"
    return head + _table(("population", "shape", "fed by", "payload", "layer"), rows)


def report_snippet(report: Report) -> str:
    """Totals per sample and energies."""
    from snn2chip.reports.rows import key_figures, shown

    rows = [(name, shown(value, unit)) for name, (value, unit) in key_figures(report).items() if value is not None]
    return f"<b>Report</b> {escape(report.name)}, {report.samples} samples" + _table(("figure", "value"), rows)


def check_snippet(result: CheckResult) -> str:
    """Equal, or the first divergence."""
    what = "equal" if result.equal else f"different: {result.first}"
    text = f"<b>Check</b> {escape(' = '.join(result.backends))}: {escape(what)}; {result.compared:,} integers compared"
    return text + "".join(f"<br>{escape(note)}" for note in result.notes)
