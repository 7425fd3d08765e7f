"""Targets from the command line: what a chip cannot do is refused, neuron programs are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import snn2chip
from snn2chip.errors import UnsupportedError
from snn2chip.nn import MHT

Invoke = Callable[..., str]


def test_neuron_programs_of_all_somas_and_of_one(program: Path, invoke: Invoke) -> None:
    everything = invoke("inspect", program, "--micro", "--target", "loihi2")
    assert "hidden (net.0): 12 neurons, fire levels, reset subtract" in everything
    one = invoke("inspect", program, "--micro", "hidden", "--target", "loihi1")
    assert one.count("neurons, fire") == 1
    assert "compare strict" in one
    assert " gt " in one
    found = json.loads(invoke("inspect", program, "--micro", "hidden", "--json"))
    (soma,) = found["somas"]
    assert soma["soma"] == "hidden"
    assert {"op", "out", "args", "bits", "range"} == set(soma["step"][0])
    assert soma["registers"]["payload"][0] >= 0


def test_micro_refuses_what_is_not_there(program: Path, tmp_path: Path, invoke: Invoke) -> None:
    assert "there is no soma 'nobody'; there are hidden, logits" in invoke(
        "inspect", program, "--micro", "nobody", code=2
    )
    assert "target must be one of ideal, loihi1" in invoke("inspect", program, "--micro", "--target", "x", code=2)
    assert "go with --micro" in invoke("inspect", program, "hidden", code=2)
    weights = tmp_path / "m.safetensors"
    weights.write_bytes(b"nothing")
    assert "error:" in invoke("inspect", weights, "--micro", code=2)


class Net(torch.nn.Sequential):
    """A frame at every step, the mean of all."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.unsqueeze(0).repeat(2, *[1] * x.dim())).mean(0)


def small_net(levels: int) -> torch.nn.Module:
    torch.manual_seed(0)
    neuron = MHT(steps=2, levels=levels, theta=0.2)
    return Net(torch.nn.Linear(6, 8), neuron, torch.nn.Linear(8, 3)).eval()


def test_compile_lists_everything_a_target_cannot_do_by_the_users_layer(tmp_path: Path) -> None:
    data = torch.from_numpy(np.random.default_rng(0).random((32, 6), dtype=np.float32))
    net = small_net(levels=3)
    assert snn2chip.compile(net, data, target="loihi2").target == "loihi2"
    assert snn2chip.compile(net, data, target="ideal").target == "ideal"
    with pytest.raises(UnsupportedError) as caught:
        snn2chip.compile(net, data, target="loihi1")
    found = caught.value.breaches
    assert all(text.startswith("Loihi 1: ") for text in found)
    assert any("(1): sends graded payloads (up to 3); spikes here are binary" in text for text in found)
    assert any(text.startswith("Loihi 1: input") and "code it in binary spikes" in text for text in found)
    path = tmp_path / "mine.toml"
    path.write_text(
        """
        base = "loihi2"
        name = "narrow"
        title = "Narrow"
        [spikes]
        payload_bits = { value = 1, unit = "bits", source = "own", confidence = "E" }
        """,
        encoding="utf-8",
    )
    with pytest.raises(UnsupportedError) as caught:
        snn2chip.compile(net, data, target=str(path))
    assert any("its payload takes 2 bits, at most 1 are sent" in text for text in caught.value.breaches)
