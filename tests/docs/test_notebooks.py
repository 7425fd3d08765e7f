"""The notebooks: made of their sources, stored with outputs, and run again from top to end."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from blocks import ROOT

nbformat = pytest.importorskip("nbformat", reason="notebooks need the extra `notebooks`")
pytest.importorskip("nbclient", reason="notebooks need the extra `notebooks`")
pytest.importorskip("ipykernel", reason="notebooks need the extra `notebooks`")


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebook_tool", ROOT / "docs" / "tools" / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TOOL = _tool()
STORED = sorted((ROOT / "examples").glob("*.ipynb"))


def stored(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def test_there_are_three() -> None:
    assert [p.stem for p in STORED] == [p.stem for p in TOOL.SOURCES]
    assert {p.stem for p in STORED} == {"compile_a_checkpoint", "compare_energy", "find_a_divergence"}


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_outputs_are_of_the_source(path: Path) -> None:
    source = TOOL.cells((ROOT / "examples" / "notebooks" / f"{path.stem}.py").read_text())
    found = stored(path)
    nbformat.validate(found)
    assert [(c.cell_type, c.source) for c in found.cells] == source
    code = [c for c in found.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    kinds = [output.output_type for c in code for output in c.outputs]
    assert "error" not in kinds
    assert "stream" in kinds
    assert "/home/" not in path.read_text()
    assert path.stat().st_size < 300_000


@pytest.mark.slow
@pytest.mark.parametrize("path", TOOL.SOURCES, ids=lambda path: path.stem)
def test_it_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own asserts hold: equal backends, the wrong weight found, more steps cost more events."""
    pytest.importorskip("lightning", reason="training needs the extra `train`")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = TOOL.execute(TOOL.notebook(path))
    assert all(cell.execution_count for cell in done.cells if cell.cell_type == "code")


def test_a_cell_that_raises_is_seen(tmp_path: Path) -> None:
    from nbclient.exceptions import CellExecutionError

    (tmp_path / "bad.py").write_text("# %%\nassert 1 == 2\n")
    with pytest.raises(CellExecutionError):
        TOOL.execute(TOOL.notebook(tmp_path / "bad.py"))
