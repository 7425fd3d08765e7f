"""Which backends can run a program on this machine, and why the others cannot."""

from __future__ import annotations

from collections.abc import Sequence

from snn2chip.ir.program import Program
from snn2chip.registry import backend_names, get_backend


def why_missing(name: str) -> str | None:
    """Why backend `name` cannot run on this machine (packages, Python version); None when it can."""
    try:
        return get_backend(name).missing()
    except ImportError as error:
        return f"its package cannot be imported ({error})"


def usable_backends(program: Program, *, names: Sequence[str] = ()) -> tuple[list[str], dict[str, str]]:
    """Backends (of `names`, default all) that can run `program` here, and the reason for each that cannot."""
    usable: list[str] = []
    reasons: dict[str, str] = {}
    for name in names or backend_names():
        reason = why_missing(name) or "; ".join(get_backend(name).limits(program))
        if reason:
            reasons[name] = reason
        else:
            usable.append(name)
    return usable, reasons
