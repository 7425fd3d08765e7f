"""The accuracy table: figures against an evaluation of their own, the bar, and rows that are there already."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import numpy as np
import pytest

from benchmarks.accuracy.measure import Result, checkpoint, identity, measure, read, write
from benchmarks.accuracy.page import page
from benchmarks.accuracy.rows import ROWS, TRAINED, Row
from snn2chip.api import run
from snn2chip.checkpoint import load_checkpoint
from snn2chip.checkpoint_compile import compile_checkpoint
from snn2chip.data import load_data
from snn2chip.train import predict

needs_data = pytest.mark.skipif(
    "SNN2CHIP_DATA" not in os.environ, reason="SNN2CHIP_DATA is not set: the Fashion-MNIST test images are needed"
)
RESULT = Result(row="a", net="n", what="net: int8", bar=0.3, images=10_000, float_right=9000, integer_right=8970,
                agree=9800, bits="8", rounding="fitted", payload_bits=None, same_payloads=False,
                calibration={"data": "d", "split": "train", "samples": 256}, weight_bytes=1234, seconds=1.0,
                identity="x", machine={"cpu": "c", "threads": 1, "python": "3", "torch": "2"})  # fmt: skip


def test_the_bar_is_in_points_of_all_images() -> None:
    assert RESULT.points == pytest.approx(0.3)
    assert RESULT.passed is True  # just
    assert attrs.evolve(RESULT, integer_right=8969).passed is False
    assert attrs.evolve(RESULT, integer_right=9100).passed is True  # a gain is no loss
    assert attrs.evolve(RESULT, integer_right=0, bar=None).passed is None


def test_the_page_says_what_was_measured() -> None:
    line = next(row for row in page([RESULT]).splitlines() if row.startswith("| net: int8"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:6] == ["net: int8", "fitted", "8", "1,234", "10,000", "90.00"]
    assert cells[6:] == ["89.70", "+0.30", "0.14", "<= 0.3", "9,800", "pass", "256 images of d train"]
    assert "**fail**" in page([attrs.evolve(RESULT, integer_right=8000)])


def test_results_are_read_back(tmp_path: Path) -> None:
    write(RESULT, tmp_path / "a.json")
    assert read(tmp_path / "a.json") == RESULT
    assert read(tmp_path / "b.json") is None


def test_another_net_another_row_or_more_images_are_measured_again(tmp_path: Path) -> None:
    row = Row(name="a", net="n", what="w")
    (tmp_path / "n.safetensors").write_bytes(b"1")
    net = checkpoint(row, [tmp_path / "none", tmp_path])
    assert net is not None
    first = identity(row, net, images=10)
    assert first == identity(row, net, images=10)
    assert first != identity(row, net, images=11)
    assert first != identity(attrs.evolve(row, bar=1.0), net, images=10)
    net.write_bytes(b"2")
    assert first != identity(row, net, images=10)
    assert checkpoint(attrs.evolve(row, net="m"), [tmp_path]) is None


def test_every_bar_of_the_table_is_one_of_the_issue() -> None:
    for row in ROWS.values():
        bits = str(row.options.get("weights", row.choices.get("payload_bits", 1)))
        wanted = {"int8": 0.3, "int4": 2.0, "8": 0.3, "4": None, "1": 0.2}[bits]
        assert row.bar == (None if row.name.endswith("nearest") else wanted), row.name


@pytest.mark.data
@needs_data
def test_a_row_is_what_model_and_program_answer(tmp_path: Path) -> None:
    row = Row(name="r", net="fashion-lmht", what="w", bar=2.0, options={"weights": "int3"})
    path = TRAINED / "fashion-lmht.safetensors"
    found = [measure(row, path, images=80, cache=tmp_path) for _ in range(2)]  # the second with kept answers
    model, header = load_checkpoint(path)
    raw, labels = load_data("fashion_mnist", split="test")
    floats = predict(model, raw[:80], spec=header.input).argmax(1)
    integers = run(compile_checkpoint(path, weights="int3"), raw[:80], record="outputs").outputs.argmax(1)
    for result in found:
        assert (result.float_right, result.integer_right, result.agree, result.images) == (
            int((floats == labels[:80]).sum()),
            int((integers == labels[:80]).sum()),
            int((floats == integers).sum()),
            80,
        )
    assert len(list(tmp_path.glob("*.npy"))) == 1
    weights = 32 * 9 + 32 * 32 * 9 + 64 * 32 * 9 + 10 * 64 * 49
    assert found[0].weight_bytes == -(-weights * 3 // 8)
    assert np.isfinite(found[0].points)
