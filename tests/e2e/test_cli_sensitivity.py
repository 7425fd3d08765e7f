"""`snn2chip sensitivity`: rows against networks quantized by hand and against compiled programs; exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import snn2chip
from snn2chip.checkpoint_compile import compile_checkpoint
from snn2chip.cli import app
from snn2chip.data import load_data
from snn2chip.nn import LIF, Repeat, Seq, TimeMean

SAMPLES = 150


def net() -> Seq:
    layers = torch.nn.Linear(64, 24), Repeat(2), LIF(steps=2), torch.nn.Linear(24, 10), TimeMean()
    return Seq(torch.nn.Flatten(), *layers)


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command for weights of the user's own module, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    torch.save(net().state_dict(), "w.pt")
    Path("user_net_of_digits.py").write_text(
        "from torch import nn\nfrom snn2chip.nn import LIF, Repeat, Seq, TimeMean\n"
        "def net():\n"
        "    layers = nn.Linear(64, 24), Repeat(2), LIF(steps=2), nn.Linear(24, 10), TimeMean()\n"
        "    return Seq(nn.Flatten(), *layers)\n",
        encoding="utf-8",
    )
    own = ["--model", "user_net_of_digits:net", "--data", "digits", "--samples", str(SAMPLES)]
    return ["sensitivity", "w.pt", *own, "--json", "found.json"]


def answers(model: torch.nn.Module) -> Any:
    raw, _ = load_data("digits", split="test")
    with torch.no_grad():
        return model(torch.as_tensor(raw[:SAMPLES]).float()).argmax(1).numpy()


def test_a_layer_made_binary_by_hand_is_the_row(words: list[str]) -> None:
    result = CliRunner().invoke(app, [*words, "--bits", "1,8"])
    assert result.exit_code == 0, result.output
    assert result.stderr == ""  # in a pipe nothing but results
    found = json.loads(Path("found.json").read_text())
    rows = {(row["layer"], row["mode"]): row for row in found["rows"]}
    assert set(rows) == {(n, m) for n in ("1", "4", "all layers") for m in ("binary", "int8")}
    _, labels = load_data("digits", split="test")
    plain, changed = net(), net()
    for model in (plain, changed):
        model.load_state_dict(torch.load("w.pt", weights_only=True))
        model.eval()
    last = changed[4]
    assert isinstance(last, torch.nn.Linear)
    w = last.weight.data
    last.weight.data = torch.where(w >= 0, 1.0, -1.0) * w.abs().mean(1, keepdim=True)
    got, want = answers(changed), answers(plain)
    row = rows["4", "binary"]
    assert row["agreement"] == pytest.approx((got == want).mean())
    assert row["accuracy"] == pytest.approx((got == labels[:SAMPLES]).mean())
    assert row["spikes"] == 1.0  # nothing fires behind it
    assert 0.0 < row["agreement"] < 1.0
    for cell in ("quantized alone", "all layers", f"{row['agreement']:.4f}"):
        assert cell in result.stdout


def test_a_pattern_chooses_layers(words: list[str]) -> None:
    result = CliRunner().invoke(app, [*words, "--bits", "2", "--layers", "4"])
    assert result.exit_code == 0, result.output
    assert {row["layer"] for row in json.loads(Path("found.json").read_text())["rows"]} == {"4", "all layers"}


@pytest.mark.parametrize("rounding", ["nearest", "fitted"])
def test_the_sweep_is_what_compiled_programs_answer(words: list[str], rounding: str) -> None:
    result = CliRunner().invoke(app, [*words, "--sweep", "--bits", "6,3,1", "--rounding", rounding])
    assert result.exit_code == 0, result.output
    found = json.loads(Path("found.json").read_text())
    raw, labels = load_data("digits", split="test")
    own = {"model": "user_net_of_digits:net", "data": "digits"}
    plain = net().eval()
    plain.load_state_dict(torch.load("w.pt", weights_only=True))
    want = answers(plain)
    assert found["float_accuracy"] == pytest.approx((want == labels[:SAMPLES]).mean())
    for row, mode, bits in zip(found["widths"], ("int6", "int3", "binary"), (6, 3, 1), strict=True):
        program = compile_checkpoint("w.pt", weights=mode, rounding=rounding, **own)  # type: ignore[arg-type]
        got = snn2chip.run(program, raw[:SAMPLES], record="outputs").pred
        assert row["mode"] == mode
        assert row["agreement"] == pytest.approx((got == want).mean())
        assert row["accuracy"] == pytest.approx((got == labels[:SAMPLES]).mean())
        assert row["weight_bytes"] == (64 * 24 + 24 * 10) * bits // 8
        assert f"{row['weight_bytes']:,}" in result.stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--bits", "9"], "2..8, ternary and 1"),
        (["--bits", ","], "2..8, ternary and 1"),
        (["--layers", "conv9*"], "no layer with weights is called 'conv9*'"),
        (["--sweep", "--layers", "4"], "leave out --layers"),
        (["--rounding", "fitted"], "goes with --sweep"),
        (["--sweep", "--rounding", "best"], "nearest or fitted"),
    ],
)
def test_what_does_not_fit_leaves_with_2(words: list[str], more: list[str], said: str) -> None:
    result = CliRunner().invoke(app, [*words, *more])
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert not Path("found.json").exists()


def test_compiled_programs_are_refused(words: list[str]) -> None:
    Path("x.s2c").write_bytes(b"")
    for name, said in (("x.s2c", "holds integers already"), ("none.pt", "no such file")):
        result = CliRunner().invoke(app, ["sensitivity", name, *words[2:]])
        assert result.exit_code == 2
        assert said in result.output
