"""Data sets by name and `X.npz` files, as raw samples read block by block."""

from __future__ import annotations

from snn2chip.data.catalog import DATA_NAMES, find_data, load_data, open_data
from snn2chip.data.npz import open_npz
from snn2chip.data.samples import Samples, read_samples

__all__ = ["DATA_NAMES", "Samples", "find_data", "load_data", "open_data", "open_npz", "read_samples"]
