"""`compile --input-coding --strict --parallel --payload-bits` from the command line to the saved program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import snn2chip
from snn2chip.cli import app
from snn2chip.nn import EMPF, LIF, QCFS, Repeat, Seq, TimeMean

NEURONS = {
    "lif": "LIF(steps=3, theta=4.0)",
    "qcfs": "QCFS(steps=1, levels=4, vth=8.0)",
    "empf": "EMPF(steps=3)",
}


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A compile command per neuron, for weights of the user's own module."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    lines = ["from torch import nn", "from snn2chip.nn import EMPF, LIF, QCFS, Repeat, Seq, TimeMean"]
    for name, neuron in NEURONS.items():
        steps = 1 if name == "qcfs" else 3
        made = {"lif": LIF(steps=3, theta=4.0), "qcfs": QCFS(levels=4, vth=8.0), "empf": EMPF(steps=3)}[name]
        layers = torch.nn.Linear(64, 24), Repeat(steps), made, torch.nn.Linear(24, 10), TimeMean()
        torch.save(Seq(torch.nn.Flatten(), *layers).state_dict(), f"{name}.pt")
        inside = f"nn.Flatten(), nn.Linear(64, 24), Repeat({steps}), {neuron}, nn.Linear(24, 10), TimeMean()"
        lines += [f"def {name}():", f"    return Seq({inside})"]
    Path("user_nets_of_choices.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tail = ["--data", "digits", "-o", "p.s2c"]
    return {n: ["compile", f"{n}.pt", "--model", f"user_nets_of_choices:{n}", *tail] for n in NEURONS}


def compiled(words: list[str]) -> snn2chip.Program:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return snn2chip.load("p.s2c")


def test_the_code_of_the_input_is_in_the_file(words: dict[str, list[str]]) -> None:
    program = compiled([*words["lif"], "--input-coding", "rate-round", "--input-range", "0,16"])
    assert (program.inputs[0].coding, program.inputs[0].scale) == ("rate-round", 16.0)
    raw = np.random.default_rng(0).integers(0, 17, (5, *program.inputs[0].shape))
    trace = snn2chip.run(program, raw, backend="torch", record="all")
    assert (trace.inputs["input"].sum(0) == (raw * 3 * 2 + 16) // 32).all()
    assert program.meta["choices"] == {"input_coding": "rate-round"}


def test_sorted_spikes_and_one_graded_step_agree(words: dict[str, list[str]]) -> None:
    raw = np.random.default_rng(0).integers(0, 17, (40, 1, 8, 8))
    counts, preds = [], []
    for form in ("graded", "spikes"):
        program = compiled([*words["qcfs"], "--parallel", form])
        trace = snn2chip.run(program, raw.reshape(40, *program.inputs[0].shape), backend="torch", record="all")
        (name,) = [s.name for s in program.somas if s.fire == "levels"]
        counts.append(trace.payloads[name].sum(0))
        preds.append(trace.pred)
        assert program.steps == (1 if form == "graded" else 4)
    assert (counts[0] == counts[1]).all()
    assert len(np.unique(counts[0])) > 2
    assert (preds[0] == preds[1]).all()


def test_payloads_of_six_bits(words: dict[str, list[str]]) -> None:
    program = compiled([*words["empf"], "--payload-bits", "6"])
    assert [int(s.out_max.max()) for s in program.somas if s.fire == "excess"] == [63]


@pytest.mark.parametrize(
    ("name", "option", "text"),
    [
        ("lif", ["--strict"], "only leak 1 has a strict form"),
        ("lif", ["--parallel", "spikes"], "neither one graded step"),
        ("empf", ["--payload-bits", "3"], "payload_bits must be 4..16"),
        ("lif", ["--input-coding", "poisson"], "none of direct, rate-floor, rate-round"),
    ],
)
def test_what_does_not_fit_leaves_no_file(words: dict[str, list[str]], name: str, option: list[str], text: str) -> None:
    result = CliRunner().invoke(app, [*words[name], *option])
    assert result.exit_code == 2
    assert text in " ".join(result.output.split())
    assert not Path("p.s2c").exists()


def test_golden_samples_of_its_data(words: dict[str, list[str]], invoke: Callable[..., str]) -> None:
    """--golden keeps the first test samples of the data set, and the file then proves itself."""
    from snn2chip.data import open_data
    from snn2chip.golden import read_golden

    compiled([*words["lif"], "--golden", "3"])
    _, golden = read_golden("p.s2c")
    first = open_data("digits", split="test").take(3).arrays()[0]["x"]
    (raw,) = golden.raw.values()
    assert (raw == first).all()
    assert "EQUAL" in invoke("check", "p.s2c", "--golden", "--backends", "torch")
