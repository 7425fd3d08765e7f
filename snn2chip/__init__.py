"""snn2chip: compile trained PyTorch spiking networks to bit-accurate integer programs.

Public names are loaded on first use, so `import snn2chip` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn2chip.api import load, run
    from snn2chip.checks.compare import CheckResult, Divergence, check
    from snn2chip.checks.fidelity import Fidelity, fidelity
    from snn2chip.compiler import compile
    from snn2chip.foreign.load import load_foreign
    from snn2chip.ir.nodes import Host, HostOp, Input, Output, Product, Synapse
    from snn2chip.ir.program import Program
    from snn2chip.ir.soma import Soma
    from snn2chip.mapping.assign import map_program
    from snn2chip.mapping.capabilities import check_target
    from snn2chip.mapping.saved import load_mapping
    from snn2chip.mapping.target_file import load_target
    from snn2chip.reports.report import report
    from snn2chip.streaming import session
    from snn2chip.trace import Trace
    from snn2chip.transforms import transform

__version__ = "0.1.0"

_PUBLIC = {
    "compile": "compiler",
    "report": "reports.report",
    "load": "api",
    "load_foreign": "foreign.load",
    "run": "api",
    "check": "checks.compare",
    "check_target": "mapping.capabilities",
    "map_program": "mapping.assign",
    "load_mapping": "mapping.saved",
    "load_target": "mapping.target_file",
    "CheckResult": "checks.compare",
    "Divergence": "checks.compare",
    "fidelity": "checks.fidelity",
    "Fidelity": "checks.fidelity",
    "session": "streaming",
    "transform": "transforms",
    "Trace": "trace",
    "Program": "ir.program",
    "Soma": "ir.soma",
    **dict.fromkeys(("Input", "Host", "HostOp", "Synapse", "Product", "Output"), "ir.nodes"),
}

__all__ = [
    "CheckResult",
    "Divergence",
    "Fidelity",
    "Host",
    "HostOp",
    "Input",
    "Output",
    "Product",
    "Program",
    "Soma",
    "Synapse",
    "Trace",
    "check",
    "check_target",
    "compile",
    "fidelity",
    "load",
    "load_foreign",
    "load_mapping",
    "load_target",
    "map_program",
    "report",
    "run",
    "session",
    "transform",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use; later uses are ordinary attributes."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'snn2chip' has no attribute {name!r}")
    value = getattr(import_module(f"snn2chip.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
