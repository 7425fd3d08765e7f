"""Where the temporary files of a Lava child lie."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest
from snn2chip_backends.lava.guard import _own_temporary


@pytest.mark.parametrize("length", [30, 70, 72, 73, 90, 120])
def test_a_folder_too_deep_for_a_socket_is_not_the_place_of_temporary_files(length: int) -> None:
    """A manager listens at TMPDIR/pymp-8 letters/listener-8 letters: 32 bytes more; Linux takes 107, macOS 103."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="s") as name:
        folder = Path(name, "d" * (length - len(name) - 1))
        place = _own_temporary(folder)
        assert len(str(folder)) == length
        assert place == ({"TMPDIR": str(folder)} if length + 32 <= 103 else {})
        if place:
            below = folder / "pymp-abcdefgh"
            below.mkdir(parents=True)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(below / "listener-abcdefgh"))
