"""Writes docs/reference/: every verb and option from the command itself, every public name from its docstring.

python docs/tools/reference.py            writes the pages
python docs/tools/reference.py --check    says which pages are not what it would write, and leaves with 1
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

FOLDER = Path(__file__).parents[1] / "reference"
NAMES = {str: "TEXT", int: "N", float: "X", bool: "", Path: "PATH"}
NOTE = "<!-- Written by docs/tools/reference.py; edit the code instead. -->"
ROOMS = {
    "snn2chip.nn": "Trainable neurons and quantised layers.",
    "snn2chip.data": "Samples: data sets by name and `X.npz` files.",
    "snn2chip.train": "Training by recipe.",
    "snn2chip.convert": "Trained ordinary networks into spiking ones.",
    "snn2chip.checkpoint": "Model checkpoints.",
    "snn2chip.transforms": "Exact rewritings of programs.",
    "snn2chip.analysis.ranges": "Proven ranges.",
    "snn2chip.checks.outside": "Golden vectors and traces from elsewhere.",
    "snn2chip.checks.sensitivity": "One layer quantized at a time.",
    "snn2chip.golden": "Golden vectors inside a program file.",
    "snn2chip.mapping.traffic": "Messages between cores.",
    "snn2chip.registry": "Backends, ours and yours.",
    "snn2chip.testing.conformance": "Whether a backend is right.",
    "snn2chip.testing.programs": "Random programs.",
    "snn2chip.errors": "The error tree.",
}


def pages() -> dict[str, str]:
    """Every page by its name."""
    return {"cli.md": cli_page(), "api.md": api_page(), "modules.md": modules_page()}


def cli_page() -> str:
    """The command line: a section per verb, a row per option."""
    from snn2chip.cli import app

    common = app.registered_callback
    assert common is not None
    codes = (
        "Exit codes: 0 done, 1 a comparison found a difference, 2 bad input, 3 the machine (a missing package, a full "
    )
    codes += "disk, a backend that died), 130 interrupted, 143 ended by SIGTERM."
    lines = ["# The command line", "", NOTE, "", codes, ""]
    lines += ["`zoo:NAME` names a file that ships with snn2chip. Options of every verb:", "", *_table(common.callback)]
    for verb in app.registered_commands:
        assert verb.name is not None
        places = [found.metavar or name.upper() for name, found, _ in _parameters_of(verb.callback) if _place(found)]
        lines += ["", f"## {verb.name}", "", _cell(verb.help or ""), ""]
        lines += ["```text", " ".join(["snn2chip", verb.name, *places, "[OPTIONS]"]), "```", "", *_table(verb.callback)]
    return "\n".join(lines) + "\n"


def _parameters_of(verb: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, typer's description and default of every parameter."""
    for name, parameter in inspect.signature(verb, eval_str=True).parameters.items():
        if hasattr(parameter.annotation, "__metadata__"):  # not the context that typer hands over
            yield name, parameter.annotation.__metadata__[0], parameter


def _place(found: Any) -> bool:
    """Whether a parameter is an argument, told by its place."""
    return type(found).__name__ == "ArgumentInfo"


def _table(verb: Any) -> list[str]:
    """A table of a verb's arguments and options."""
    rows = ["| option | meaning | default |", "|---|---|---|"]
    for name, found, parameter in _parameters_of(verb):
        kinds = [k for k in (parameter.annotation.__origin__, *get_args(parameter.annotation.__origin__)) if k in NAMES]
        value = found.metavar or (NAMES[kinds[0]] if kinds else "VALUE")
        flags = [] if _place(found) else _flags(name, found)
        told = [f"`{flag}`".replace("/", "`, `") for flag in flags]
        told += [] if flags and bool in kinds else [f"`{value}`"]
        needed = parameter.default is parameter.empty
        rows.append(f"| {_cell(' '.join(told))} | {_cell(found.help or '')} | {_default(parameter.default, needed)} |")
    return rows


def _flags(name: str, found: Any) -> list[str]:
    """The spellings of an option; inside Annotated typer keeps the first of them as a default."""
    first = [found.default] if isinstance(found.default, str) else []
    return [*first, *(found.param_decls or ())] or [f"--{name.replace('_', '-')}"]


def _default(value: Any, needed: bool) -> str:
    """A default worth showing."""
    if needed:
        return "required"
    return "" if value is None or value is False or value in ((), []) else f"`{value}`"


def _cell(text: str) -> str:
    """One line that a table cell can hold."""
    return _plain(" ".join(text.split())).replace("|", "\\|")


def api_page() -> str:
    """What `import snn2chip` offers."""
    import snn2chip

    lines = [
        "# Python: `snn2chip`",
        "",
        NOTE,
        "",
        "What `import snn2chip` offers; the rest is in [modules](modules.md).",
    ]
    for name in sorted(snn2chip.__all__, key=lambda n: (n[0].isupper(), n)):
        lines += ["", f"## {name}", "", *_entry("snn2chip", name, getattr(snn2chip, name), methods=True)]
    return "\n".join(lines) + "\n"


def modules_page() -> str:
    """The other rooms that users import from."""
    lines = ["# Python: the other modules", "", NOTE, "", "The first names are in [`snn2chip`](api.md)."]
    for room, title in ROOMS.items():
        lines += ["", f"## {room}", "", title]
        for name, value in _public(room):
            lines += ["", f"### {room.removeprefix('snn2chip.')}.{name}", "", *_entry(room, name, value)]
    return "\n".join(lines) + "\n"


def _public(room: str) -> Iterator[tuple[str, Any]]:
    """Public functions and classes of a module: `__all__`, or what is defined there."""
    module = import_module(room)
    names = getattr(module, "__all__", None)
    for name in sorted(names or vars(module)):
        value = getattr(module, name)
        ours = names is not None or getattr(value, "__module__", "") == room
        if ours and not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
            yield name, value


def _entry(room: str, name: str, value: Any, *, methods: bool = False) -> Iterator[str]:
    """Signature and docstring of one name."""
    yield from ["```text", _signature(f"{room}.{name}", value), "```", "", *_doc(value)]
    rows: list[str] = []
    for method, found in sorted(vars(value).items()) if methods and inspect.isclass(value) else ():
        body = getattr(found, "fget", None) or getattr(found, "__func__", found)
        if not method.startswith("_") and inspect.isfunction(body) and body.__doc__:
            call = method if isinstance(found, property) else f"{method}{_parameters(body)}"
            rows.append(f"- `{call}`: {_plain(' '.join(inspect.cleandoc(body.__doc__).split()))}")
    yield from ["", *rows] if rows else ()


def _doc(value: Any) -> list[str]:
    """The docstring as paragraphs; a class without one of its own says nothing."""
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    if not text or text.startswith("Method generated by attrs"):
        return []
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(text))
    shown = [f"```text\n{b}\n```" if re.search(r"^  ", b, re.M) else _plain(b) for b in blocks]
    return "\n\n".join(shown).split("\n")


def _plain(text: str) -> str:
    """Text whose stars and angles, outside of code, are no markup."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*<\[_])", r"\\\1", p) for p in parts)


def _signature(path: str, value: Any) -> str:
    """`path(parameters)`, a line per parameter where one line is too long; errors by their base."""
    if inspect.isclass(value) and issubclass(value, BaseException):
        bases = [b.__bases__[0] if b.__name__.startswith("_") else b for b in value.__bases__]
        return f"{path}({', '.join(base.__name__ for base in bases)})"
    return path + _parameters(value, width=110 - len(path))


def _parameters(value: Any, width: int = 10_000) -> str:
    """The parameters of a call, without self."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # classes made in C
        return ""
    found = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    parts, starred = [], False
    for parameter in found:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
        starred |= parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        parts.append(_parameter(parameter))
    back = _annotation(signature.return_annotation) if not inspect.isclass(value) else ""
    arrow = f" -> {back}" if back else ""
    line = f"({', '.join(parts)}){arrow}"
    return line if len(line) <= width else "(\n" + "".join(f"    {p},\n" for p in parts) + f"){arrow}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    kind = _annotation(parameter.annotation)
    text = f"{stars}{parameter.name}" + (f": {kind}" if kind else "")
    if parameter.default is parameter.empty:
        return text
    shown = repr(parameter.default)
    shown = "..." if shown == "NOTHING" or " at 0x" in shown or shown.startswith("<") else shown
    return f"{text} = {shown}"


def _annotation(kind: Any) -> str:
    """An annotation as the source has it, whatever the Python."""
    if kind is inspect.Signature.empty:
        return ""
    text = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    text = re.sub(r"(?:typing\.)?Optional\[ForwardRef\('([^']*)'[^)]*\)\]", r"\1 | None", text)
    return re.sub(r"ForwardRef\('([^']*)'[^)]*\)", r"\1", text)


def main(arguments: list[str]) -> int:
    """Write the pages, or say which are stale."""
    made = pages()
    stale = [n for n, text in made.items() if not (FOLDER / n).is_file() or (FOLDER / n).read_text() != text]
    if arguments == ["--check"]:
        print("\n".join(f"docs/reference/{name} is stale: python docs/tools/reference.py" for name in stale))
        return int(bool(stale))
    FOLDER.mkdir(exist_ok=True)
    for name in stale:
        (FOLDER / name).write_text(made[name])
    print(f"{len(stale)} of {len(made)} pages written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
