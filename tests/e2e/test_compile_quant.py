"""`compile --quant FILE.toml`: widths by layer name reach the saved program."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import snn2chip
from snn2chip.cli import app
from snn2chip.nn import LIF, Repeat, Seq, TimeMean
from snn2chip.quantize.weights import top


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A compile command for weights of the user's own module."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    layers = torch.nn.Linear(64, 24), Repeat(2), LIF(steps=2), torch.nn.Linear(24, 10), TimeMean()
    torch.save(Seq(torch.nn.Flatten(), *layers).state_dict(), "w.pt")
    Path("user_net_by_width.py").write_text(
        "from torch import nn\nfrom snn2chip.nn import LIF, Repeat, Seq, TimeMean\n"
        "def net():\n"
        "    layers = nn.Linear(64, 24), Repeat(2), LIF(steps=2), nn.Linear(24, 10), TimeMean()\n"
        "    return Seq(nn.Flatten(), *layers)\n",
        encoding="utf-8",
    )
    Path("widths.toml").write_text('weights = "int5"\n[layers."4"]\nweights = "int3"\n', encoding="utf-8")
    return ["compile", "w.pt", "--model", "user_net_by_width:net", "--data", "digits", "-o", "w.s2c"]


def test_widths_by_name(words: list[str]) -> None:
    result = CliRunner().invoke(app, [*words, "--quant", "widths.toml"])
    assert result.exit_code == 0, result.output
    first, last = (s for s in snn2chip.load("w.s2c").synapses if s.kind == "linear")
    assert (first.bits, last.bits) == (5, 3)
    assert abs(first.weight).max() == top(5)
    assert abs(last.weight).max() == top(3)


def test_two_widths_for_the_rest_are_refused(words: list[str]) -> None:
    result = CliRunner().invoke(app, [*words, "--quant", "widths.toml", "--weights", "int8"])
    assert result.exit_code == 2
    assert "contradict" in result.output
    assert not Path("w.s2c").exists()
