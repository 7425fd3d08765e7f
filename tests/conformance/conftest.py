"""What lava-dl's wheel ships: networks and recordings, the outside truth of several files here."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The folder of lava-dl's own NetX tests, inside the installed wheel."""
    try:
        folder = Path(str(distribution("lava-dl").locate_file("tests/lava/lib/dl/netx")))
    except PackageNotFoundError:
        pytest.skip("lava-dl, whose recordings these are, is not installed")
    if not (folder / "tiny.net").is_file():
        pytest.skip("this lava-dl wheel does not ship its test networks")
    return folder
