"""Programs with large weights: mapped on load, written from where they lie, the same numbers as ever."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy import sparse

from snn2chip.api import run
from snn2chip.errors import InputError
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


def loaded(path: Path, *, seed: int = 1) -> Program:
    """A program mapped from a file of some time ago."""
    files.write(path, program(seed=seed))
    os.utime(path, ns=(10**18, 10**18))
    return files.read(path)[0]


def overwrite(path: Path) -> None:
    """Other weights, as many bytes, in place."""
    files.write(path.with_name("b.s2c"), program(seed=2))
    assert path.with_name("b.s2c").stat().st_size == path.stat().st_size
    shutil.copyfile(path.with_name("b.s2c"), path)


def cut(path: Path) -> None:
    os.truncate(path, 100)


X = np.random.default_rng(3).integers(0, 2, size=(4, 512))
USES: dict[str, Callable[[Program, Path], Any]] = {
    "torch": lambda held, _: run(held, X, record="outputs"),
    "all of torch": lambda held, _: run(held, X),
    "reference": lambda held, _: run(held, X, backend="reference"),
    "digest": lambda held, _: held.digest(),
    "save": lambda held, path: files.write(path.with_name("c.s2c"), held),
    "weight": lambda held, _: held["w"].weight,
    "values": lambda held, _: held["w"].values(),
    "another synapse": lambda held, _: attrs.evolve(held["w"], name="other"),
    "another program": lambda held, _: Program(nodes=held.nodes, edges=held.edges, steps=2),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("change", [overwrite, cut])
def test_a_file_changed_in_place_is_told(change: Callable[[Path], None], use: str, tmp_path: Path) -> None:
    """Neither other numbers nor the end of the process: the error says which file and what to do."""
    path = tmp_path / "a.s2c"
    held = loaded(path)
    change(path)
    with pytest.raises(InputError, match=r"a\.s2c: changed in place after it was loaded .*load it again.*mv"):
        USES[use](held, path)
    assert not path.with_name("c.s2c").exists()


@pytest.mark.parametrize("change", [overwrite, cut])
def test_what_is_ready_to_run_needs_no_file(change: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "a.s2c"
    held = loaded(path)
    expected = X @ program(seed=1)["w"].weight.T
    assert np.array_equal(run(held, X, record="outputs").outputs, expected)
    change(path)
    assert np.array_equal(run(held, X, record="outputs").outputs, expected)


def test_other_names_and_no_name_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.s2c"
    held = loaded(path)
    path.rename(tmp_path / "other.s2c")
    assert held.digest() == program(seed=1).digest()
    (tmp_path / "other.s2c").unlink()
    assert held.digest() == program(seed=1).digest()


def test_only_dense_weights_of_8_bits_stay_in_the_file(tmp_path: Path) -> None:
    """Sparse ones of many entries, a few weights, thresholds per neuron: all of them are memory of their own."""
    rng = np.random.default_rng(5)
    entries = sparse.random(300, 512, density=0.3, random_state=1, format="csr")
    entries.data = rng.integers(1, 4, len(entries.data))
    assert len(entries.data) > 1 << 15, "offsets of 32 bits"
    made = Program(
        nodes=[
            Input("in", 512, 0, 1),
            Synapse("sparse", "linear", entries),
            Soma("s", 300, theta=rng.integers(1, 1 << 20, size=(1, 300))),
            Synapse("few", "linear", rng.integers(-128, 128, size=(4, 300))),
            Soma("t", 4, fire="none"),
            Output("o"),
        ],
        edges=[("in", "sparse"), ("sparse", "s"), ("s", "few"), ("few", "t"), ("t", "o")],
        steps=2,
    )
    files.write(tmp_path / "a.s2c", made)
    held = files.read(tmp_path / "a.s2c")[0]
    kept = held["sparse"].stored
    arrays = [kept.data, kept.indices, kept.indptr, held["few"].stored, held["s"].theta]
    assert not [i for i, array in enumerate(arrays) if isinstance(root(array), mmap.mmap)]


def test_a_file_is_closed_with_its_last_weights(tmp_path: Path) -> None:
    held = loaded(tmp_path / "a.s2c")
    descriptor = root(held["w"].stored).descriptor
    assert os.fstat(descriptor).st_ino == (tmp_path / "a.s2c").stat().st_ino
    del held
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_the_command_after_a_cut(tmp_path: Path) -> None:
    """In a process of its own, which reading behind the end of a file would end by a signal."""
    loaded(tmp_path / "a.s2c")
    code = (
        "import os, sys, numpy as np\nfrom snn2chip.api import load, run\nfrom snn2chip.errors import InputError\n"
        "held = load(sys.argv[1]); os.truncate(sys.argv[1], 100)\n"
        "try: run(held, np.ones((2, 512), int))\nexcept InputError: sys.exit(7)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.s2c")], timeout=120, check=False)
    assert done.returncode == 7


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
