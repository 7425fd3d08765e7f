"""The code blocks of the pages: what they are, what lies in their folder beforehand, and how they are run.

Rules of a page, in comments that a reader does not see:

    <!-- needs: digits.s2c lava -->     files of tests/docs/conftest.py that lie in the folder; lava: the page runs Lava
    <!-- setup ... -->                  Python that is run first
    <!-- not run: reason -->            the next block is not run, and why
    <!-- prints -->                     the next block is found, line by line, in what was just printed (... is any)

A block whose first line is a comment with a file name, `# mine.toml`, is written there. `# exit code 1` behind a
command is what it leaves with. Commands `snn2chip ...` run in this process, everything else of bash in a shell.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import attrs
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
NOT_RUN = re.compile(r"<!-- not run: (?P<why>[^>]+) -->\s*$")
PRINTS = re.compile(r"<!-- prints -->\s*$")
RUN = ("python", "bash", "toml")
SHOWN = ("text", "json")
UV = re.compile(r"^python3 -m uv run (?:--extra \w+ )*")


@attrs.frozen(kw_only=True)
class Block:
    """One code block: language, text, line, why it is not run, whether it is what the block before it prints."""

    kind: str
    text: str
    line: int
    why: str | None = None
    printed: bool = False


@attrs.frozen(kw_only=True)
class Page:
    """A page with its blocks, the files it needs, and the Python that goes before them."""

    path: Path
    needs: tuple[str, ...]
    setup: str
    blocks: tuple[Block, ...]

    @property
    def name(self) -> str:
        """Path from the root of the repository."""
        return str(self.path.relative_to(ROOT))

    @property
    def runs(self) -> bool:
        """Whether anything of it is run."""
        return any(b.kind in RUN and b.why is None for b in self.blocks)


def pages() -> list[Page]:
    """README and every page of docs/, by name."""
    return [read_page(path) for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))]


def read_page(path: Path) -> Page:
    """Find the blocks of one page."""
    text = path.read_text()
    needs = re.search(r"<!-- needs: ([^>]*) -->", text)
    setup = re.search(r"<!-- setup\n(.*?)-->", text, re.S)
    return Page(
        path=path,
        needs=tuple(needs[1].split()) if needs else (),
        setup=setup[1] if setup else "",
        blocks=tuple(_blocks(text)),
    )


def _blocks(text: str) -> Iterator[Block]:
    for found in FENCE.finditer(text):
        before = text[: found.start()].rstrip(" ")
        why = NOT_RUN.search(before)
        indent = len(found["indent"])
        yield Block(
            kind=found["kind"],
            text="".join(line[indent:] + "\n" for line in found["text"].splitlines()),
            line=before.count("\n") + 1,
            why=why["why"] if why else None,
            printed=bool(PRINTS.search(before)),
        )


def run_page(page: Page) -> None:
    """Run every block in order in the current folder; raises AssertionError naming page and line."""
    names: dict[str, Any] = {"__name__": f"page_{page.path.stem}"}
    exec(compile(page.setup, f"{page.name} (setup)", "exec"), names)
    output = ""
    for block in page.blocks:
        if block.printed:
            missing = [line for line in block.text.splitlines() if line.strip() and not _printed(line, output)]
            assert not missing, f"{page.name}:{block.line}: not printed: {missing}\n--- but ---\n{output}"
        if block.why is None and block.kind in RUN:
            try:
                output = run_block(block, names, f"{page.name}:{block.line}")
            except Exception as error:
                raise AssertionError(f"{page.name}:{block.line}: {type(error).__name__}: {error}") from error


def _printed(line: str, output: str) -> bool:
    """Whether a line was printed; spaces count as one, `...` is anything."""
    wanted = r".*".join(re.escape(" ".join(part.split())) for part in line.split("..."))
    return any(re.search(wanted, " ".join(said.split())) for said in output.splitlines())


def run_block(block: Block, names: dict[str, Any], where: str) -> str:
    """Run one block and return what it printed."""
    named = re.match(r"# ([\w-]+\.(?:py|toml))\b", block.text)
    if named:
        Path(named[1]).write_text(block.text)
    if block.kind == "python":
        said = StringIO()
        with redirect_stdout(said):
            exec(compile(block.text, where, "exec"), names)
        return said.getvalue()
    return "".join(run_line(line) for line in commands(block.text)) if block.kind == "bash" else ""


def commands(text: str) -> Iterator[str]:
    """The commands of a bash block, one per line, continued lines joined."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield UV.sub("", line.strip())


def run_line(line: str) -> str:
    """Run one command; its exit code is the one its comment tells, else 0."""
    told = re.search(r"#.*\bexit code (\d+)", line)
    code = int(told[1]) if told else 0
    words = shlex.split(line, comments=True)
    if words[0] == "snn2chip" and not set(words) & {"|", "&&", ">", ";"}:
        from snn2chip.cli import app

        result = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        got, output = result.exit_code, result.output
    else:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": path}
        done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, timeout=300, check=False, env=env)
        got, output = done.returncode, done.stdout + done.stderr
    assert got == code, f"{line}: left with {got}, not {code}\n{output}"
    return output
