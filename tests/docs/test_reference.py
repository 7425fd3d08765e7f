"""The reference pages are what the generator makes of the code, and the pages name only options that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from blocks import ROOT, pages

TOOL = ROOT / "docs" / "tools" / "reference.py"
VERBS = re.compile(r"snn2chip (?P<verb>[a-z]+)\b(?P<rest>[^\n`]*)")


def test_the_pages_are_those_of_the_code() -> None:
    done = subprocess.run([sys.executable, str(TOOL), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_stale_pages_are_told(tmp_path: Path) -> None:
    """The check can fail: one page is missing, one has another letter."""
    shutil.copytree(ROOT / "docs" / "reference", tmp_path / "reference")
    (tmp_path / "tools").mkdir()
    copy = shutil.copy(TOOL, tmp_path / "tools")
    (tmp_path / "reference" / "api.md").unlink()
    with (tmp_path / "reference" / "cli.md").open("a") as file:
        file.write("x")
    done = subprocess.run([sys.executable, copy, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert {"api.md", "cli.md"} <= set(re.findall(r"reference/(\w+\.md) is stale", done.stdout))


def _options() -> dict[str, set[str]]:
    """Options of every verb, from the reference page."""
    found: dict[str, set[str]] = {}
    sections = (ROOT / "docs/reference/cli.md").read_text().split("\n## ")
    common = set(re.findall(r"`(--?[a-z-]+)`", sections[0]))
    for section in sections[1:]:
        verb = section.split("\n", 1)[0]
        found[verb] = common | {"--help"} | set(re.findall(r"`(--?[a-z-]+)`", section))
    return found


def test_every_command_on_a_page_is_one_that_there_is() -> None:
    options, wrong = _options(), []
    for page in pages():
        text = re.sub(r"\\\n\s*", " ", page.path.read_text())
        for found in VERBS.finditer(text):
            verb = found["verb"]
            if verb not in options:
                if found["rest"][:1] in " " and f"`snn2chip {verb}" in text:
                    wrong.append(f"{page.name}: snn2chip {verb}")
                continue
            own = re.split(r"\s{2,}#|\|\s*snn2chip", re.sub(r"\$\(.*\)", "", found["rest"]))[0]
            given = set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", own))
            wrong += [f"{page.name}: snn2chip {verb} {flag}" for flag in sorted(given - options[verb])]
    assert not wrong, "\n".join(wrong)
