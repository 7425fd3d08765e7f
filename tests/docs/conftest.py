"""What lies in a page's folder: networks on digits, each made once by the commands that a reader would give."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from blocks import ROOT, Page, run_line

MADE_BY = {
    "digits.safetensors": ["snn2chip train digits --epochs 2 -o digits.safetensors"],
    "digits.s2c": ["snn2chip compile digits.safetensors --golden 4 -o digits.s2c"],
    "relu.safetensors": ["snn2chip train digits-relu --epochs 2 -o relu.safetensors"],
    "qcfs.safetensors": ["snn2chip train digits-qcfs --epochs 2 -o qcfs.safetensors"],
}
COMES_FROM = {"digits.s2c": ("digits.safetensors",)}
NIR = ROOT / "tests" / "unit" / "nir" / "fixtures"
COPIED = {"net.nir": NIR / "snntorch_mlp.nir", "sinabs.nir": NIR / "sinabs_mlp.nir"}


def _samples(path: Path) -> None:
    from snn2chip.data import load_data

    x, y = load_data("digits", split="test")
    np.savez(path, x=x[:20], y=y[:20])


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`made(name)`: the file of that name, made on first use."""
    folder = tmp_path_factory.mktemp("made")

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                for source in COMES_FROM.get(name, ()):
                    make(source)
                if name == "samples.npz":
                    _samples(path)
                elif name in COPIED:
                    shutil.copy(COPIED[name], path)
                for line in MADE_BY.get(name, ()):
                    run_line(line)
        return path

    return make


@pytest.fixture
def folder(
    made: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Page], None]]:
    """`folder(page)`: enter an empty folder with what the page needs; modules imported from it are forgotten."""
    before = set(sys.modules)

    def enter(page: Page) -> None:
        for name in page.needs:
            if name != "lava":
                shutil.copy(made(name), tmp_path / name)
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("COLUMNS", "150")

    yield enter
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]
