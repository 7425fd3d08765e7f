"""Files of every format version that was ever released are read, and mean what they meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from snn2chip import load
from snn2chip.checkpoint import load_checkpoint
from snn2chip.checkpoint_header import VERSION as CHECKPOINT_VERSION
from snn2chip.checks.outside import check_golden
from snn2chip.ir.files import VERSION as PROGRAM_VERSION
from snn2chip.ir.files import read

FOLDER = Path(__file__).parents[2] / "data" / "formats"
PROGRAMS = sorted(FOLDER.glob("*.s2c"))
CHECKPOINTS = sorted(FOLDER.glob("*.safetensors"))
DIGESTS = {
    "binary-weights": "4d5f139bc58bc0404b257dbf723868ac2f5a4952e308f2b816378451c6d7ef1d",
    "edge-changes-follow-changes": "c047fe464fac00d6f071c1fcb14874d1927f6e42892922d72dfe512881f1db8c",
    "edge-widest-changes": "608a5148ccc7c08fd6127ea72cbd6d3a996fb5cddd3a5acdc06f502df48439e6",
    "edge-largest-products": "5e28911e32f13b181cecfa75472b1d9ed374a8b9cff2f0afda443c54b5643a02",
    "edge-many-levels": "113c3370804a2434687435e69add2c54985a0a87f9b533a7b51a9912bc7ee92d",
    "edge-sparse-rows-empty": "481185f34b99a983d6e094b79d588767ad99f3cfb382218de1e484ad3950d678",
    "edge-three-hop-loop": "f610926aab518c4255257f6cfd5aeef84af9d78960073f7cf7f387efb6454132",
    "edge-two-windows": "1e1cbd645db44dfd5b0776ccebaf2cca359aa45f549db7232facd4ad4986ea63",
}
TOTAL = 22.95607137773186


def test_every_version_has_files() -> None:
    """No version may be raised without keeping files of the one before."""
    for version in range(1, PROGRAM_VERSION + 1):
        least = 2 if version == 3 else 5  # of version 3 are programs that send changes, no others
        assert sum(path.stem.endswith(f"-v{version}") for path in PROGRAMS) >= least
    for version in range(1, CHECKPOINT_VERSION + 1):
        assert sum(path.stem.endswith(f"-v{version}") for path in CHECKPOINTS) >= 1


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_program(path: Path) -> None:
    """The program has the digest it was written with, and gives its golden vectors."""
    program = load(path)
    assert program.digest() == DIGESTS[path.stem.rpartition("-v")[0]]
    assert check_golden(path, backends=("reference", "torch")).equal


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_program_is_written_again_the_same(path: Path, tmp_path: Path) -> None:
    """Read and written again it has the same content."""
    program, _ = read(path)
    program.save(tmp_path / "again.s2c")
    assert load(tmp_path / "again.s2c").digest() == program.digest()


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_checkpoint(path: Path) -> None:
    """The model is rebuilt with the weights that were stored."""
    model, header = load_checkpoint(path)
    assert (header.model, header.T, header.L, header.classes) == ("mlp", 2, 2, ("a", "b", "c"))
    total = sum(float(value.double().abs().sum()) for value in model.state_dict().values())
    assert total == pytest.approx(TOTAL, rel=1e-12)
