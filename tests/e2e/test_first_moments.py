"""Ctrl-C and SIGTERM while the command still imports, and between its imports and its verb: one line, the exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from snn2chip.toml_files import toml_tables

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = {signal.SIGINT: (130, "error: interrupted\n"), signal.SIGTERM: (143, "error: terminated\n")}
ENTRY = str(toml_tables((ROOT / "pyproject.toml").read_bytes())["project"]["scripts"]["snn2chip"]).replace(
    ":", " import "
)
SCRIPT = ("-c", f"from {ENTRY}; main()")
MODULE = ("-m", "snn2chip")
SWALLOWS = """
import os
try:
    os.kill(os.getpid(), {number})
    os.getpid()
except BaseException:
    raise ImportError("of its own")
"""
LATER = """
import os
import snn2chip.origin
plain = snn2chip.origin.begin
def begin(words):
    plain(words)
    os.kill(os.getpid(), {number})
snn2chip.origin.begin = begin
"""


def ended(folder: Path, words: tuple[str, ...], *, ignored: int | None = None) -> tuple[int, str]:
    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
        if ignored is not None:
            signal.signal(ignored, signal.SIG_IGN)

    path = os.pathsep.join([str(folder), str(ROOT), str(ROOT / "backends"), str(ROOT / "models")])
    done = subprocess.run(
        [sys.executable, *words, "--version"], cwd=folder, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=60, preexec_fn=prepare, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("words", [SCRIPT, MODULE], ids=["script", "module"])
def test_while_it_imports(tmp_path: Path, words: tuple[str, ...], number: signal.Signals) -> None:
    (tmp_path / "typer.py").write_text(SWALLOWS.format(number=int(number)))
    assert ended(tmp_path, words) == SIGNALS[number]


@pytest.mark.parametrize("number", SIGNALS)
def test_between_imports_and_verb(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "sitecustomize.py").write_text(LATER.format(number=int(number)))
    assert ended(tmp_path, MODULE) == SIGNALS[number]


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """`nohup` and a shell's background jobs ignore signals on purpose."""
    (tmp_path / "sitecustomize.py").write_text(LATER.format(number=int(signal.SIGINT)))
    assert ended(tmp_path, MODULE, ignored=signal.SIGINT) == (0, "")
