"""Core counts of dense layers are those of the published worked examples; lists by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.mapping.memory import bytes_of, list_words, stored_bits
from snn2chip.mapping.partition import partition
from snn2chip.mapping.target_file import load_target

WORKED = [
    # inputs, outputs, k dense, cores dense, sparse encoding, 4-bit dense, nengo, raw Mbit
    (256, 256, 481, 1, 1, 1, 1, 0.50),
    (784, 512, 152, 4, 6, 2, 4, 3.06),
    (1024, 1024, 115, 9, 16, 5, 9, 8.00),
    (2048, 1000, 53, 19, 34, 10, 17, 15.6),
    (4096, 1000, 21, 48, 84, 24, 34, 31.3),
]


def dense(inputs: int, outputs: int, bits: int) -> Program:
    """One dense layer; the most extreme weights of the width, so that it is really stored in it."""
    weight = np.full((outputs, inputs), (1 << (bits - 1)) - 1)
    nodes: list[Any] = [
        Input("x", inputs),
        Synapse("w", "linear", weight, bits),
        Soma("n", outputs, reset="zero", theta=9),
    ]
    return Program(
        nodes=[*nodes, Output("o", "count")], edges=[("x", "w"), ("w", "n"), ("n", "o")], steps=1, target="loihi1"
    )


@pytest.mark.parametrize(("n", "m", "k", "plain", "sparse", "four", "nengo", "raw"), WORKED)
def test_worked_examples(n: int, m: int, k: int, plain: int, sparse: int, four: int, nengo: int, raw: float) -> None:
    loihi1 = load_target("loihi1")
    layer = dense(n, m, 8)
    assert partition(layer, loihi1).cores == plain
    assert partition(layer, loihi1, encoding="sparse").cores == sparse
    assert partition(dense(n, m, 4), loihi1).cores == four
    assert partition(layer, load_target("loihi1-nengo")).cores == nengo
    assert n * m * 8 / 2**20 == pytest.approx(raw, rel=0.005)
    wide = dense(n, 1024, 8)  # k outputs fit on one core, k + 1 do not
    for outputs, fits in ((k, True), (k + 1, False)):
        found = partition(dense(n, outputs, 8), loihi1)
        assert (found.cores == 1) == fits, outputs
    assert partition(wide, loihi1).cores == -(-1024 // k)


@pytest.mark.parametrize(
    ("runs", "length", "bits", "words"),
    [
        (1, 1, 16 + 8, 1),
        (1, 5, 16 + 40, 1),  # 56 bits, 8 stay free
        (1, 6, 16 + 48, 2),  # 64 bits: none stay free, one more word
        (3, 2, 3 * (16 + 16), 2),  # every run is an entry of its own: 96 bits
        (1, 60, 16 + 480, 8),  # one full entry: 496 bits, 16 free
        (1, 61, 2 * 16 + 488, 9),  # 61 synapses take two entries: 520 bits
    ],
)
def test_a_dense_list_by_hand(runs: int, length: int, bits: int, words: int) -> None:
    """10 bits of header, 6 of start (at most 64 outputs), 8 per synapse; words of 64 bits of which 6 stay free."""
    encoding = load_target("loihi1").encodings["dense"]
    found = int(list_words(encoding, runs=runs, length=length, gap=9, outputs=64, weight_bits=8))
    free = found * 64 - bits
    assert found == words
    assert 6 <= free < 64 + 6


def test_run_length_lists_skip_or_break() -> None:
    """Three runs of 2: with a gap of 3 one entry with 2-bit skips, with a gap of 40 three entries."""
    encoding = load_target("loihi1").encodings["run-length"]
    near, far = (int(list_words(encoding, runs=3, length=2, gap=gap, outputs=64, weight_bits=8)) for gap in (3, 40))
    assert near == -(-(16 + 6 * 10) // 64) == 2
    assert far == 2 + (3 * 16 + 6 * 10 > 2 * 64 - 6)


def test_a_kernel_is_stored_once_with_its_overhead() -> None:
    """[8, 4, 3, 3] weights of 4 bits: 1152 bits = 144 bytes, and 30 %."""
    assert int(bytes_of(load_target("loihi2").encodings["kernel"], 8 * 4 * 9 * 4)) == 188  # 187.2 rounded up


@pytest.mark.parametrize(
    ("bits", "sign", "stored"),
    [
        (1, "mixed", 2),
        ("ternary", "mixed", 2),
        (1, "excitatory", 1),
        (7, "mixed", 8),
        (8, "mixed", 8),
        (5, "excitatory", 5),
    ],
)
def test_stored_widths(bits: Any, sign: str, stored: int) -> None:
    """Loihi 1 stores 1, 2, 3, 4, 5, 6 or 8 bits; -1 and +1 need a sign."""
    assert stored_bits(bits, sign, load_target("loihi1")) == stored


def test_an_unknown_encoding_is_named() -> None:
    with pytest.raises(InputError, match="encoding must be one of dense, sparse, run-length on loihi1, got 'zip'"):
        partition(dense(4, 4, 8), load_target("loihi1"), encoding="zip")


def test_a_layer_that_fits_nowhere_says_what_and_by_how_much(tmp_path: Path) -> None:
    """5000 inputs on 4096 axons: 904 too many, whatever the weights; splitting the inputs would do."""
    with pytest.raises(
        UnsupportedError, match=r"input axons: 5,000 needed .* 4,096 there \(904 too many\).*partial sums"
    ):
        partition(dense(5000, 3, 8), load_target("loihi1"))
    path = tmp_path / "small.toml"
    path.write_text(
        'base = "loihi2"\nname = "small"\n[limits]\n'
        'synapse_memory_per_core = { value = 60, unit = "bytes", source = "own", confidence = "E" }\n'
    )
    with pytest.raises(
        UnsupportedError, match=r"n: fits on no core: synapse bytes: 100 .* 60 .*\(40 too many\); 4-bit"
    ):
        partition(dense(100, 3, 8), load_target(path))
