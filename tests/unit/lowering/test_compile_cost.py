"""The page of `compile-cost`: slopes against the number of weights, and bars."""

from __future__ import annotations

from benchmarks.compile_cost import SIZES, page


def test_slopes_and_bars_are_those_of_the_rows() -> None:
    """Seconds and memory proportional to weights: every slope is 1, and extra memory a factor of 3."""
    rows = []
    for i, name in enumerate(SIZES):
        weights = 4**i * 1_000_000
        numbers = {"cpu": weights / 1e6, "wall": 2 * weights / 1e6, "extra": 12 * weights / 2**20, "file": weights}
        rows.append({"name": name, "weights": weights, "images": 16, "save": 0.1, **numbers})
    text = page(rows)
    assert "CPU seconds 1.00, extra memory 1.00, file 1.00; between the two largest 1.00 and 1.00" in text
    assert "| ResNet-18, 64..512 channels: seconds | 15 | 32.0 |" in text
    assert "| ResNet-18, 64..512 channels: extra memory, x float32 | 4 | 3.0 |" in text
    assert "| ResNet-34 at 224 x 224: seconds | 60 | 512.0 |" in text
