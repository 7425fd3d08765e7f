"""Widths by name pattern, from a TOML file to the synapses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snn2chip.errors import InputError, QuantizeError
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.quantize.quant_file import read_quant
from snn2chip.quantize.spec import QuantSpec
from snn2chip.testing import graphs


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "widths.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_patterns_reach_the_synapses(tmp_path: Path) -> None:
    text = 'weights = "int6"\nbias_correction = true\nrounding = "fitted"\n'
    text += '[layers."net.f*"]\nweights = "int4"\n[layers.fc]\nweights = "ternary"\n'
    spec = read_quant(written(tmp_path, text))
    assert spec.bias_correction
    assert spec.rounding == "fitted"
    assert read_quant(written(tmp_path, "")).rounding == "nearest"
    spec = read_quant(written(tmp_path, text))
    graph = graphs.chain(2)
    x = np.random.default_rng(0).integers(0, 16, (8, 1, 6, 6))
    program = lower(graph, calibrate(graph, x), spec=spec)
    assert (program["c1"].bits, program["fc"].bits) == (6, 4)  # the first pattern that fits counts
    assert program["c2"].bits == 1  # trained binary weights stay


def test_a_pattern_that_fits_nothing_is_named() -> None:
    graph = graphs.chain(2)
    ranges = calibrate(graph, np.random.default_rng(0).integers(0, 16, (8, 1, 6, 6)))
    with pytest.raises(QuantizeError, match=r"'conv9\*'; there are net\.c1, net\.c2, net\.fc"):
        lower(graph, ranges, spec=QuantSpec(overrides={"conv9*": "int4"}))


@pytest.mark.parametrize("mode", ["keepx", "binary8", "int9", "int1", "INT4", 4, ""])
def test_other_words_are_no_widths(mode: object) -> None:
    with pytest.raises(InputError, match="must be keep, binary, ternary or int"):
        QuantSpec(weights=mode)  # type: ignore[arg-type]


def test_all_breaches_of_a_file_at_once(tmp_path: Path) -> None:
    text = 'weights = "int99"\nbits = 3\nbias_correction = 1\nrounding = "best"\n'
    text += '[layers.a]\nweights = "int1"\n[layers.b]\nwidth = 3\n'
    with pytest.raises(InputError) as caught:
        read_quant(written(tmp_path, text))
    for part in ("'bits'", "true or false, got 1", "got 'best'", "int99", "int1", 'layers."b"', "widths.toml"):
        assert part in str(caught.value)


@pytest.mark.parametrize("text", ["weights = ", '\xff"', "layers = 3"])
def test_damaged_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "widths.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"widths\.toml"):
        read_quant(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_quant(tmp_path / "missing.toml")
