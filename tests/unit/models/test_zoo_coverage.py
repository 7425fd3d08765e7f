"""Every kind of zoo net with every activation compiles and runs equally, or says what is missing: docs/coverage.md."""

from __future__ import annotations

import pytest
from snn2chip_models.layers import ACTIVATIONS

from benchmarks.coverage import DOC, FAMILIES, WEIGHTS, cell, row, short


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_of_the_page_is_what_the_code_does(family: str) -> None:
    found = {(family, act, weights): cell(family, act, weights) for act in ACTIVATIONS for weights in WEIGHTS}
    wrong = {key: status for key, status in found.items() if "**" in short(status)}
    assert not wrong, "a cell that is neither equal nor a refusal with a known reason"
    assert row(family, found) in DOC.read_text(encoding="utf-8"), "run `python -m benchmarks.coverage`"


def test_the_page_has_every_family_once() -> None:
    lines = [line.split(" | ")[0].removeprefix("| ") for line in DOC.read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if line in FAMILIES] == list(FAMILIES)


@pytest.mark.parametrize("family", ["small-vgg, max pool", "small-vgg"])
def test_a_refusal_names_the_layer_and_the_reason(family: str) -> None:
    status = cell(family, "relu" if family == "small-vgg" else "lmht", "float")
    layer, reason = {
        "small-vgg, max pool": ("layers.pool1 (MaxPool2d)", "use average pooling"),
        "small-vgg": ("layers.act1_1", "relu has no integer form"),
    }[family]
    assert layer in status
    assert reason in status
