"""Links of the pages: every relative one leads to a file, every anchor to a heading, every page is in the site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from blocks import FENCE, ROOT

DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *DOCS]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def prose(path: Path) -> str:
    """The page without its code."""
    return re.sub(r"`[^`\n]*`", "code", FENCE.sub("", path.read_text()))


def anchors(path: Path) -> set[str]:
    """Anchors of the headings, as the site and code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def broken(path: Path) -> list[str]:
    """Links of one page that lead nowhere."""
    found = []
    for link in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists():
            found.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(there):
            found.append(f"{link}: no such heading")
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert not broken(path)


def test_broken_links_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b`, c\n[a](#a-b-c) [b](#other) [c](page.md#a-b-c) [d](none.md) `[e](x.md)`\n```text\n[f](y.md)\n```\n"
    )
    assert broken(page) == ["#other: no such heading", "none.md: no such file"]


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r": ([\w/-]+\.md)$", text, re.M))
    pages = {str(path.relative_to(ROOT / "docs")) for path in DOCS}
    assert pages - named == set()
    assert {name for name in named - pages if not (ROOT / name).is_file()} == set()
