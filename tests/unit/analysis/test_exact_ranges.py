"""Currents at the edge of what arithmetic holds: exact just inside, refused by name just outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from snn2chip_backends.torch.backend import TorchBackend
from torch import Tensor, nn

import snn2chip
from snn2chip.checks.usable import usable_backends
from snn2chip.compiler import compile_graph
from snn2chip.errors import InputError, ProgramError, UnsupportedError
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX
from snn2chip.ir.validate import MAX_CURRENT
from snn2chip.nn import IF

TOP = (1 << 24) - 1


def cancelling(weight: int, *, gain: int = 1, gain_shift: int = 0) -> Program:
    """a = weight*2^16*(p0 - p1) + 3*p2: sums near the edge whose difference fits a potential."""
    return Program(
        nodes=[
            Input("x", (3,), 0, TOP, coding="steps"),
            Synapse("big", "linear", [[weight, -weight, 0]], exponent=16),
            Synapse("small", "linear", [[0, 0, 3]]),
            Soma("n", (1,), fire="none", gain=gain, gain_shift=gain_shift, leak=0),
            Output("o", "potential"),
        ],
        edges=[("x", "big"), ("x", "small"), ("big", "n"), ("small", "n"), ("n", "o")],
        steps=2,
    )


def by_hand(x: np.ndarray, weight: int, gain: int, shift: int) -> list[list[int]]:
    """The potential after every step in Python's own integers."""
    half = (1 << shift) >> 1
    found = []
    for step in x.tolist():
        totals = [(weight * 65536 * (p - q) + 3 * r) * gain + half >> shift for p, q, r in step]
        found.append([max(-V_MAX, min(V_MAX, total)) for total in totals])
    return found


@pytest.mark.parametrize(("gain", "shift"), [(1, 0), (-32767, 15), (32767, 15)])
def test_just_inside_every_backend_is_exact(gain: int, shift: int) -> None:
    """Sums of 2^46 - 2^22, times a gain of 15 bits, in any order, beside terms of a few units."""
    program = cancelling(63, gain=gain, gain_shift=shift)
    rng = np.random.default_rng(0)
    near = TOP - rng.integers(0, 2, (2, 40, 2))
    x = np.concatenate([near, rng.integers(0, 1000, (2, 40, 1))], 2)
    want = by_hand(x, 63, gain, shift)
    assert 0 < max(map(max, want)) < V_MAX  # nothing hides behind a saturated potential
    for backend in usable_backends(program)[0]:
        ran = snn2chip.run(program, x, backend=backend)
        assert ran.potentials["n"][..., 0].tolist() == want, backend


def test_just_outside_no_program_is_made() -> None:
    edge = 64 * TOP << 16  # 2^46 - 2^22
    assert edge + 3 * TOP >= MAX_CURRENT > 63 * TOP * 65536 + 3 * TOP
    with pytest.raises(
        ProgramError, match=rf"n: its current may reach {edge + 3 * TOP}, beyond the exact range"
    ) as error:
        cancelling(64)
    assert "use fewer bits for weights" in str(error.value)


def test_windows_at_the_edge_are_exact() -> None:
    """Mixed sums of 2^45 and more, of which differences of a few units are left."""
    top = (1 << 29) - 1
    window = [[32767, -32767], [-32767, 32767]]
    program = Program(
        nodes=[
            Input("x", (2,), 0, TOP, coding="steps"),
            Synapse("w", "linear", [[31, 1]], exponent=1),
            Soma("n", (1,), fire="none", window=window, leak=0),
            Output("o", "potential"),
        ],
        edges=[("x", "w"), ("w", "n"), ("n", "o")],
        steps=2,
    )
    assert 32 * TOP * 2 * 32767 > 1 << 44 > top
    x = TOP - np.random.default_rng(1).integers(0, 4, (2, 60, 2))
    a = (31 * x[..., 0] + x[..., 1]).astype(object) * 2
    want = [[max(-V_MAX, min(V_MAX, 32767 * (p - q) * sign)) for p, q in zip(*a, strict=True)] for sign in (1, -1)]
    assert len({abs(v) for v in want[0]}) > 4
    for backend in usable_backends(program)[0]:
        assert snn2chip.run(program, x, backend=backend).potentials["n"][..., 0].tolist() == want, backend


def narrow(top: int, *, window: bool = False) -> Program:
    fields = {"window": [[1, 1], [0, 1]]} if window else {}
    return Program(
        nodes=[
            Input("x", (128,), 0, top, coding="steps"),
            Synapse("w", "linear", np.ones((2, 128), np.int64), layer="fc"),
            Soma("n", (2,), fire="none", leak=0, gain=1, gain_shift=5, **fields),
            Output("o", "potential"),
        ],
        edges=[("x", "w"), ("w", "n"), ("n", "o")],
        steps=2,
    )


def test_float32_is_exact_up_to_its_edge_and_refused_beyond() -> None:
    """128 payloads of 2^17 sum to 2^24; one unit more in each needs another bit, which float32 has not."""
    single = TorchBackend(widest="float32")
    inside, outside = narrow(1 << 17), narrow((1 << 17) + 1)
    assert single.limits(inside) == []
    x = (1 << 17) - np.random.default_rng(2).integers(0, 2, (2, 30, 128))
    x[0, 0] = 1 << 17
    want = ((x.sum(-1) + 16) >> 5)[..., None].repeat(2, -1)
    np.testing.assert_array_equal(snn2chip.run(inside, x, backend=single).potentials["n"], want)
    assert np.float32(128 * ((1 << 17) + 1) + 1) != 128 * ((1 << 17) + 1) + 1
    message = r"synapse w \(fc\), current of soma n: sums may reach 16,777,344, beyond 16,777,216, up to which float32"
    with pytest.raises(UnsupportedError, match=message):
        snn2chip.run(outside, x, backend=single)
    y = x + 1
    want = ((y.sum(-1) + 16) >> 5)[..., None].repeat(2, -1)
    np.testing.assert_array_equal(snn2chip.run(outside, y, backend="torch").potentials["n"], want)
    assert [text.split(":")[0] for text in single.limits(narrow(1 << 17, window=True))] == ["soma n"]
    with pytest.raises(InputError, match="widest='float16' is none of float64, float32"):
        TorchBackend(widest="float16")


class Wide(nn.Module):
    """Raw values of 16 bits into 40 taps of 8 bits."""

    T = 2

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.fc, self.act, self.head = nn.Linear(40, 6), IF(steps=2, theta=theta), nn.Linear(6, 3)
        nn.init.uniform_(self.fc.weight, 0.5, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.act(self.fc(x).unsqueeze(0).repeat(2, 1, 1)).mean(0))
        return y


def test_a_chip_whose_sums_are_left_on_real_data_is_refused() -> None:
    torch.manual_seed(0)
    net, x = Wide(1e6).eval(), torch.randint(0, 65536, (20, 40)).float()
    message = r"Loihi 2.*neuron1 \(act\): its current.*leaves the chip's 24 bits"
    with pytest.raises(UnsupportedError, match=message) as error:
        compile_graph(net, x, weights="int8")
    assert "proven bound" in str(error.value)
    assert "target='ideal'" in str(error.value)
    program, _ = compile_graph(net, x, weights="int8", target="ideal")
    assert program.meta["ranges"]["neuron1"] == "current beyond 24 bits"
    assert snn2chip.check(program, x.numpy(), backends=["reference", "torch"]).equal
    program, _ = compile_graph(Wide(1e4).eval(), (x / 64).floor(), weights="int8")  # 10 bits
    assert program.meta["ranges"]["neuron1"] in ("proven", "calibrated")
