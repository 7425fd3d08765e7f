"""A file X.npz as a data set: where a name is asked for, its path does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snn2chip.data import open_data
from snn2chip.errors import InputError


def test_a_path_is_a_data_set(tmp_path: Path) -> None:
    x, y = np.arange(24).reshape(4, 2, 3), np.array([0, 1, 1, 0])
    np.savez(tmp_path / "a.npz", x=x, y=y)
    for split in ("train", "test"):
        found = open_data(str(tmp_path / "a.npz"), split=split)
        arrays, labels = found.arrays()
        assert (arrays["x"] == x).all()
        assert labels is not None
        assert (labels == y).all()
        assert not found.time_axis
    assert open_data(str(tmp_path / "a.npz"), by_step=True).time_axis
    np.savez(tmp_path / "b.npz", **{"x/left": x, "x/right": x[:, :1]})
    both = open_data(str(tmp_path / "b.npz"), inputs=("left", "right"))
    assert both.shapes == {"left": (2, 3), "right": (1, 3)}


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_data(str(tmp_path / "none.npz"))
    with pytest.raises(InputError, match=r"unknown data set 'digit'.*or the path of a file X.npz"):
        open_data("digit")
