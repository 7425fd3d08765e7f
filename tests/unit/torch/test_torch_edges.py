"""Bounds and refusals of the exact engine at their edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from snn2chip_backends.torch import TorchBackend, captured
from snn2chip_backends.torch.bounds import soma_bounds
from snn2chip_backends.torch.pooled import unpooled

from snn2chip.api import run
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma


@pytest.mark.parametrize(("shift", "arriving"), [(0, 30), (1, 15), (2, 8), (3, 4), (6, 0), (5, 1)])
def test_a_windows_sum_is_rounded_half_up(shift: int, arriving: int) -> None:
    """|a| <= 10 through rows of sums 3: (30 + 2^(shift-1)) >> shift arrives, T of them at leak 1."""
    soma = Soma("n", 2, fire="none", window=np.array([[3, 0], [-1, 2]]), window_shift=shift)
    bounds = soma_bounds(soma, 10, 2)
    assert bounds.mixing == 30
    assert bounds.driven == arriving
    assert bounds.total == 2 * arriving


def wide(weight: int, *, window: bool) -> Program:
    """Payloads up to 2^18 times an identity's weight into a non-firing soma."""
    soma = Soma("n", 2, fire="none", gain_shift=15, window=np.eye(1, dtype=int) if window else None)
    nodes = [Input("x", (2,), 0, 1 << 18), Synapse("w", "identity", weight), soma, Output("o", "potential")]
    return Program(nodes=nodes, edges=[("x", "w"), ("w", "n"), ("n", "o")], steps=1)


def test_only_what_is_summed_in_floats_is_held_to_their_exact_range() -> None:
    """An identity's current is summed in integers: 2^18 * 65 is beyond float32's 2^24, and no breach; mixed it is."""
    backend = TorchBackend(widest="float32")
    assert backend.limits(wide(65, window=False)) == []
    assert backend.limits(wide(64, window=True)) == []
    (told,) = backend.limits(wide(65, window=True))
    assert "sums of its window may reach" in told


@pytest.mark.parametrize(
    ("gain", "shift", "driven"), [(1, 0, 10), (3, 1, 15), (3, 2, 8), (5, 3, 6), (1, 5, 0), (2, 5, 1)]
)
def test_a_scaled_current_is_rounded_half_up(gain: int, shift: int, driven: int) -> None:
    """|a| <= 10: (10 * gain + 2^(shift-1)) >> shift."""
    bounds = soma_bounds(Soma("n", 1, fire="none", gain=-gain, gain_shift=shift), 10, 1)
    assert bounds.driven == bounds.total == driven
    assert bounds.scaled == 10 * gain + ((1 << shift) >> 1)


def test_a_convolution_of_equal_blocks_is_a_smaller_one_of_sums() -> None:
    """4x4 weights equal in blocks of 2x2, stride 2 on an even image: a 2x2 kernel, all of its sizes whole numbers."""
    small = np.arange(8).reshape(2, 1, 2, 2)
    weight = small.repeat(2, axis=2).repeat(2, axis=3)
    synapse = Synapse("s", "conv2d", weight, stride=(2, 2), padding=(2, 2))
    found = unpooled(synapse, (1, 8, 8))
    assert found is not None
    factor, made = found
    assert (factor, made.kernel_size, made.stride, made.padding) == (2, (2, 2), (1, 1), (1, 1))
    assert all(isinstance(n, int) for n in made.kernel_size)
    assert (made.weight == small).all()
    weight[0, 0, 0, 0] += 1
    assert unpooled(Synapse("s", "conv2d", weight, stride=(2, 2), padding=(2, 2)), (1, 8, 8)) is None
    assert unpooled(synapse, (1, 7, 8)) is None


def relayed(top: int, steps: int) -> Program:
    """Payloads of one neuron passed on as they are."""
    nodes = [
        Input("x", (1,), 0, top),
        Synapse("w", "identity", 1),
        Soma("n", (1,), fire="relay", reset="drop", out_min=0, out_max=top),
        Output("o", "payload"),
    ]
    return Program(nodes=nodes, edges=[("x", "w"), ("w", "n"), ("n", "o")], steps=steps)


@pytest.mark.parametrize("record", ["all", "outputs"])
@pytest.mark.parametrize(("top", "steps"), [((1 << 23) - 1, 300), ((1 << 23) - 1, 255), (100, 300)])
def test_sums_of_payloads_may_leave_32_bits(top: int, steps: int, record: str) -> None:
    """steps * payload on both sides of 2^31: outputs and counts are the plain product."""
    program = relayed(top, steps)
    trace = run(program, np.array([[top]]), backend="torch", record=record)
    assert trace.outputs.tolist() == [[steps * top]]
    assert trace.counts.sources["n"]["payload_sum"] == steps * top
    assert trace.counts.sources["n"]["spikes"] == steps


def test_small_runs_are_captured_and_large_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of at most WORK payloads are played from what was captured; others go the ordinary way."""
    if captured.fused.compiled_pass() is None:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # several would take halves, which are small again
    program = relayed(100, 3)
    for batch, kept in ((2, 1), (captured.WORK // 6, 2), (captured.WORK // 6 + 1, 2)):
        x = np.broadcast_to(np.arange(batch).reshape(1, batch, 1) % 101, (3, batch, 1))
        got = TorchBackend().run(program, {"x": x}, record="outputs")
        assert (got.outputs[:, 0] == 3 * (np.arange(batch) % 101)).all()
        assert len(captured._CAPTURES[program]._free) == kept, batch
