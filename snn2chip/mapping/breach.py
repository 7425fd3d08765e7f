"""What a target cannot do with a program, one statement per node."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from snn2chip.ir.nodes import Node, describe

KINDS = ("refused", "cost", "unproven")


@attrs.frozen
class Breach:
    """`node` (with the user's layer), `what` is wrong there and `help`, what would do instead.

    `kind`: refused (the target cannot do it), cost (it can, with more resources), unproven (it can as long as values
    stay in range, which the static bounds do not show; calibration data did not exceed it).
    """

    node: str
    what: str
    help: str = ""
    kind: str = "refused"

    def __str__(self) -> str:
        text = f"{self.node}: {self.what}" if self.node else self.what
        return f"{text}; {self.help}" if self.help else text


def breach(node: Node, what: str, help: str = "", kind: str = "refused") -> Breach:
    """A breach of one node."""
    return Breach(describe(node), what, help, kind)


def summary(found: Iterable[Breach], kind: str) -> list[str]:
    """The breaches of one kind, equal ones of several nodes in one line."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for item in found:
        if item.kind == kind:
            nodes.setdefault((item.what, item.help), []).append(item.node)
    return [str(Breach(", ".join(names), what, help)) for (what, help), names in nodes.items()]
