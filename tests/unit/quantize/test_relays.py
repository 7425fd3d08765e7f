"""Relays keep the bias of the maps they follow, and integers without a bias as they are."""

from __future__ import annotations

import numpy as np
import pytest

from snn2chip import Input, Output, Program, Synapse, run
from snn2chip.quantize.relays import lower_relay


def relayed(bias: list[float], delta: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Float current, dequantised payloads and integers of a relay behind an identity of two channels."""
    d, b = np.array(delta), np.array(bias)
    top = 20 * d + np.abs(b)
    lowered = lower_relay(name="r", label="r", path="", shape=(2,), delta=d, bias=b, current=top, unit=None)
    program = Program(
        nodes=[Input("x", (2,), -20, 20), Synapse("w", "identity"), lowered.soma, Output("o", "payload")],
        edges=[("x", "w"), ("w", "r"), ("r", "o")],
        steps=1,
    )
    x = np.stack(np.meshgrid(np.arange(-20, 21), np.arange(-20, 21)), axis=-1).reshape(-1, 2)
    payload = run(program, x, backend="reference").payloads["r"][0]
    return x * d + b, payload * np.broadcast_to(lowered.unit, (2,)), payload


@pytest.mark.parametrize("bias", [[-0.73, -0.04], [0.0, 0.31]])
@pytest.mark.parametrize("delta", [[2.0, 22.0], [4.0, 4.0]])
def test_a_bias_much_smaller_than_the_unit_is_kept(bias: list[float], delta: list[float]) -> None:
    want, got, _ = relayed(bias, delta)
    assert np.abs(got - want).max() < 2e-3 * max(delta)


@pytest.mark.parametrize("delta", [[2.0, 22.0], [4.0, 4.0]])
def test_without_a_bias_the_integers_pass_as_they_are(delta: list[float]) -> None:
    want, got, payload = relayed([0.0, 0.0], delta)
    assert (got == want).all()
    assert np.abs(payload).max() == 20
