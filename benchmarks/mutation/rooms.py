"""The rooms whose tests are tested: soma, schedule, quantize, passes and the exact torch engine."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINE = "backends/snn2chip_backends/torch"
ROOMS: dict[str, tuple[str, ...]] = {
    "soma": ("snn2chip/ir/soma.py", "snn2chip/ir/validate_soma*.py", "snn2chip/ir/dynamics*.py"),
    "schedule": ("snn2chip/schedule*.py",),
    "quantize": ("snn2chip/quantize/*.py",),
    "passes": ("snn2chip/passes/*.py",),
    "engine": (f"{ENGINE}/*.py", f"{ENGINE}/passes/*.py"),
}
WHOLE = ("soma", "schedule")  # every mutant of these; of the rest a sample with a fixed seed
GPU = ("gpu", "cuda", "triton", "graphs")  # files of these names run on a CUDA device only


def files(room: str) -> list[str]:
    """Files of a room, relative to the root; what runs on a CUDA device only is left to a machine that has one."""
    found = (path for pattern in ROOMS[room] for path in ROOT.glob(pattern))
    return sorted(str(path.relative_to(ROOT)) for path in found if not path.stem.startswith(GPU))


def room_of(file: str) -> str:
    """The room that a file belongs to."""
    return next(room for room in ROOMS if file in files(room))


def module_of(file: str) -> str:
    """Import name of a file."""
    parts = Path(file.removeprefix("backends/")).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def compiled(file: str) -> bool:
    """Whether numba compiles a file's functions or constants in, so that they are seen only with the compiler off."""
    return file.startswith(f"{ENGINE}/passes/") or file == f"{ENGINE}/layout.py"


def statements(source: str) -> dict[int, tuple[int, int, bool]]:
    """Line -> first and last line of its innermost simple statement or header, and whether it runs at import."""
    found: dict[int, tuple[int, int, bool]] = {}

    def visit(node: ast.AST, outside: bool) -> None:
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            first = node.lineno
            last = body[0].lineno - 1 if body else (node.end_lineno or first)
            decorated = [d.lineno for d in getattr(node, "decorator_list", ())]
            for line in range(min([first, *decorated]), max(first, last) + 1):
                found[line] = (first, max(first, last), outside)
        inside = outside and not isinstance(node, (ast.FunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(source), True)
    return found
