"""Programs with large weights: mapped on load, written from where they lie, the same numbers as ever."""

from __future__ import annotations

import mmap
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from snn2chip.api import run
from snn2chip.ir import files, geometry, narrow
from snn2chip.ir.nodes import SMALL, Input, Output, Synapse, Unchanging
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import PayloadType


def program(outputs: int = 16, *, inputs: int = 512, seed: int = 0, top: int = 127) -> Program:
    """One dense layer of `outputs` x `inputs` weights, read out."""
    weight = np.random.default_rng(seed).integers(-top - 1, top + 1, size=(outputs, inputs), dtype=np.int8)
    return Program(
        nodes=[Input("in", inputs, 0, 1), Synapse("w", "linear", weight), Soma("s", outputs, fire="none"), Output("o")],
        edges=[("in", "w"), ("w", "s"), ("s", "o")],
        steps=1,
    )


def root(array: Any) -> Any:
    while getattr(array, "base", None) is not None:
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


def peak(work: Callable[[], Any]) -> int:
    """Most bytes that `work` held at once."""
    work()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_large_weights_are_mapped_and_small_ones_are_not(tmp_path: Path) -> None:
    for made, mapped in ((program(), True), (program(SMALL // 512), False)):
        files.write(tmp_path / "a.s2c", made)
        stored = files.read(tmp_path / "a.s2c")[0]["w"].stored
        assert isinstance(root(stored), mmap.mmap) is mapped
        assert not stored.flags.writeable
        assert np.array_equal(stored, made["w"].stored)


def test_weights_in_few_bits_come_back(tmp_path: Path) -> None:
    made = program(outputs=300, inputs=701, top=7)
    files.write(tmp_path / "a.s2c", made)
    assert load_file(tmp_path / "a.s2c")["w/weight"].dtype == np.uint8
    again = files.read(tmp_path / "a.s2c")[0]
    assert np.array_equal(again["w"].stored, made["w"].stored)
    assert again["w"].stored.dtype == np.int8
    assert not again["w"].stored.flags.writeable


@pytest.mark.parametrize("top", [127, 7, 0])
def test_loading_and_saving_make_no_second_copy(top: int, tmp_path: Path) -> None:
    """Four million weights of 8, 4 and 1 bits: what is held beside them is a part of them, not a copy."""
    made, path = program(outputs=2000, inputs=2000, top=top), tmp_path / "a.s2c"
    weights, packed = 4_000_000, {127: 0, 7: 2_000_000, 0: 500_000}[top]
    files.write(path, made)
    allowed = 3_500_000 + (weights if packed else 0) + packed
    assert peak(lambda: files.read(path)) < allowed
    assert peak(lambda: files.write(path, made)) < 3_500_000 + packed
    assert peak(made.digest) < 3_500_000


def test_a_file_that_is_replaced_stays_what_was_loaded(tmp_path: Path) -> None:
    first, second, path = program(seed=1), program(outputs=40, seed=2), tmp_path / "a.s2c"
    x = np.random.default_rng(3).integers(0, 2, size=(4, 512))
    files.write(path, first)
    held = files.read(path)[0]
    files.write(path, second)
    assert held.digest() == first.digest()
    assert np.array_equal(run(held, x, backend="reference").outputs, x @ first["w"].weight.T)
    assert files.read(path)[0].digest() == second.digest()
    files.write(path, held)  # over the file that it is mapped from
    path.unlink()
    assert np.array_equal(held["w"].weight, first["w"].weight)


def test_what_a_user_gives_is_copied() -> None:
    weight = np.full((16, 512), 3, np.int8)
    taken = Synapse("w", "linear", weight)
    weight[:] = 5
    assert (taken.stored == 3).all()


@pytest.mark.parametrize(
    "array",
    [np.full((2, 3), 7, np.int8), np.full((64, 128), 300), np.full((64, 128), 7), np.full((256, 64), 7, np.int8).T],
    ids=["small", "wide values", "wide type", "other order"],
)
def test_what_is_not_stored_that_way_is_converted(array: Any) -> None:
    taken = Synapse("w", "linear", Unchanging(array), 8)
    assert np.array_equal(taken.weight, array)
    assert not np.shares_memory(taken.stored, array)


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 18])
def test_current_ranges_of_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Largest and smallest sums by Python's integers, with -128 among the weights, one row, many rows."""
    monkeypatch.setattr(geometry, "BLOCK", block)
    rng = np.random.default_rng(5)
    for rows, columns, lo, hi in ((1, 9, 0, 3), (23, 1, -4, 9), (31, 17, -(1 << 22), (1 << 22) - 1)):
        weight = rng.integers(-128, 128, size=(rows, columns))
        weight[0] = -128
        ends = [sorted((int(w) * lo, int(w) * hi) for w in row) for row in weight]
        expected_lo = min(sum(min(a, b) for a, b in row) for row in ends)
        expected_hi = max(sum(max(a, b) for a, b in row) for row in ends)
        synapse = Synapse("w", "linear", weight, 8)
        assert geometry.current_range(synapse, PayloadType(lo, hi)) == (expected_lo, expected_hi)


@pytest.mark.parametrize("size", [narrow.BLOCK - 1, narrow.BLOCK, narrow.BLOCK + 1, 2 * narrow.BLOCK + 5])
def test_packing_over_the_edges_of_blocks(size: int) -> None:
    for top in (2, 4, 16):
        array = np.random.default_rng(size).integers(0, top, size, dtype=np.int8)
        stored, how = narrow.narrowed({"a": array})
        codes = sum(int(v) << (i * how["a"]["bits"]) for i, v in enumerate(array[-9:]))
        bits = "".join(f"{byte:08b}" for byte in stored["a"][::-1])[-size * how["a"]["bits"] :]
        assert int(bits[: 9 * how["a"]["bits"]], 2) == codes
        assert np.array_equal(narrow.widened(stored, how)["a"], array)
