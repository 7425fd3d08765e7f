"""Writes examples/*.ipynb from examples/notebooks/*.py: cells between `# %%` lines, executed, outputs stored.

python docs/tools/notebooks.py            executes and writes every notebook (extra `notebooks`)
python docs/tools/notebooks.py NAME       only this one
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
SOURCES = sorted((EXAMPLES / "notebooks").glob("*.py"))
SECONDS = 300


def cells(source: str) -> list[tuple[str, str]]:
    """Kind (code, markdown) and text of every cell."""
    found = []
    for part in re.split(r"^# %%", source, flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        markdown = head.strip() == "[markdown]"
        text = re.sub(r"^# ?", "", body, flags=re.M) if markdown else body
        found.append(("markdown" if markdown else "code", text.strip("\n")))
    return found


def notebook(path: Path) -> Any:
    """The notebook of a source, without outputs."""
    from nbformat import v4

    made = [
        (v4.new_markdown_cell if kind == "markdown" else v4.new_code_cell)(text, id=f"cell-{n}")
        for n, (kind, text) in enumerate(cells(path.read_text()))
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return v4.new_notebook(cells=made, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def execute(made: Any) -> Any:
    """Run all cells in a kernel of their own, in an empty folder; a cell that raises is an error."""
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            made, timeout=SECONDS, kernel_name="python3", record_timing=False, resources={"metadata": {"path": folder}}
        )
        client.execute()
    return made


def main(names: list[str]) -> int:
    """Execute and write."""
    import nbformat

    for path in SOURCES:
        if not names or path.stem in names:
            made = execute(notebook(path))
            made.metadata = notebook(path).metadata
            nbformat.write(made, EXAMPLES / f"{path.stem}.ipynb")
            print(f"examples/{path.stem}.ipynb")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
