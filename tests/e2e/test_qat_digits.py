"""A two-epoch int4 network on digits: compiled, it predicts what the trained model itself predicts, all 450 times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snn2chip.api import run
from snn2chip.checkpoint_compile import compile_checkpoint
from snn2chip.checks.fidelity import fidelity
from snn2chip.checks.float_side import float_side
from snn2chip.data import load_data
from snn2chip.train.run import train_recipe


@pytest.mark.slow
def test_all_predictions_and_payloads_of_an_int4_net_are_the_models(tmp_path: Path) -> None:
    path = train_recipe("digits-int4", out=tmp_path / "net.safetensors", epochs=2, progress=False).path
    program = compile_checkpoint(path)
    raw, labels = load_data("digits", split="test")
    graph, model = float_side(path)
    found = fidelity(program, graph, raw, labels=labels, model=model)
    assert found.samples == 450
    assert found.differing == 0
    assert (model(raw).argmax(1) == run(program, raw, backend="torch").pred).all()
    neurons = [row for row in found.layers if row.soma in program.meta["trained"]]
    assert len(neurons) == 3
    assert [row.free_equal for row in neurons] == [1.0] * 3
    assert found.float_accuracy == np.mean(model(raw).argmax(1) == labels)
