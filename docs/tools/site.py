"""A hook of mkdocs: pages that lie outside of docs/ join the site, and links to them stay right in both places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OUTSIDE = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(?=[#)])")


def guests() -> list[str]:
    """Pages outside of docs/ that the site has, by their path in the repository."""
    return [*OUTSIDE, *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "benchmarks").glob("*.md"))]


def on_files(files: Any, config: Any) -> Any:
    """Add the guests."""
    from mkdocs.structure.files import File

    for name in guests():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links at where the pages are in the site; what the site does not hold becomes plain text."""
    name = page.file.src_uri
    home = (ROOT / name if name in guests() else ROOT / "docs" / name).parent

    def moved(found: re.Match[str]) -> str:
        there = (home / found[1]).resolve()
        if not there.is_relative_to(ROOT):
            return found[1]
        path = there.relative_to(ROOT).as_posix()
        uri = path.removeprefix("docs/")
        known = files.get_file_from_path(uri)
        up = "../" * name.count("/")
        return f"{up}{uri}" if known is not None else found[1]

    text = LINK.sub(moved, markdown)
    return re.sub(r"\[([^\]]*)\]\(((?:\.\./)*(?:examples|snn2chip|tests|models|backends)/[^)]*|\.\.)\)", r"\1", text)
