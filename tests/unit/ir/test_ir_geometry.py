"""Synapse geometry against loops and against torch: shapes, fan-out, current bounds, currents."""

from __future__ import annotations

from itertools import product as cross
from typing import Any

import numpy as np
import pytest
import torch
from snn2chip_backends.reference.backend import product_current, synapse_current

from snn2chip.ir.dynamics import rshift, trunc4096, wrap24
from snn2chip.ir.geometry import conv_size, current_range, fan_out, out_shape
from snn2chip.ir.host import conv2d_int
from snn2chip.ir.nodes import Input, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import PayloadType
from snn2chip.ir.validate import current_ranges

RNG = np.random.default_rng(8)
CONVS = [
    {"stride": s, "padding": p, "dilation": d, "groups": g, "kernel": k}
    for s, p, d, g, k in cross([1, (2, 1)], [0, (1, 2)], [1, (2, 1)], [1, 2, 4], [(1, 1), (3, 2)])
]


def conv(settings: dict[str, Any], *, sparse: bool = False) -> Synapse:
    fields = dict(settings)
    kernel, groups = fields.pop("kernel"), fields["groups"]
    weight = RNG.integers(-128, 128, (8, 4 // groups, *kernel)) * (RNG.random((8, 4 // groups, *kernel)) < 0.7)
    weight[0, 0, 0, 0] = 3
    return Synapse("c", "conv2d", weight, 8, sparse=sparse, **fields)


@pytest.mark.parametrize("settings", CONVS, ids=str)
def test_conv_equals_torch(settings: dict[str, Any]) -> None:
    synapse = conv(settings)
    x = RNG.integers(-15, 16, (2, 4, 7, 6))
    fields = {k: v for k, v in settings.items() if k != "kernel"}
    want = torch.nn.functional.conv2d(torch.from_numpy(x).double(), torch.tensor(synapse.weight).double(), **fields)
    assert (synapse_current(synapse, x) == want.numpy()).all()
    assert out_shape(synapse, (4, 7, 6)) == (tuple(want.shape[1:]), [])


@pytest.mark.parametrize(
    ("size", "k", "stride", "padding", "dilation", "out"),
    [
        (5, 3, 1, 0, 1, 3),
        (5, 3, 2, 1, 1, 3),
        (6, 3, 2, 1, 1, 3),
        (7, 3, 1, 0, 2, 3),
        (4, 5, 1, 0, 1, 0),
        (1, 1, 3, 0, 1, 1),
    ],
)
def test_conv_size_by_hand(size: int, k: int, stride: int, padding: int, dilation: int, out: int) -> None:
    assert conv_size(size, k, stride, padding, dilation) == out


def reached(synapse: Synapse, source: tuple[int, ...]) -> Any:
    """Synapses per source neuron, by sending one spike at a time through weights of 1."""
    ones = (synapse.dense() != 0).astype(np.int64) if synapse.sparse else np.ones_like(synapse.dense())
    plain = Synapse("c", synapse.kind, ones, 8, stride=synapse.stride, padding=synapse.padding,
                    dilation=synapse.dilation, groups=synapse.groups, kernel_size=synapse.kernel_size)  # fmt: skip
    found = np.zeros(source, dtype=np.int64)
    for at in np.ndindex(*source):
        spike = np.zeros((1, *source), dtype=np.int64)
        spike[(0, *at)] = 1
        found[at] = synapse_current(plain, spike).sum()
    return found


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("settings", CONVS[::3], ids=str)
def test_fan_out_of_conv(settings: dict[str, Any], sparse: bool) -> None:
    synapse = conv(settings, sparse=sparse)
    assert (fan_out(synapse, (4, 7, 6)) == reached(synapse, (4, 7, 6))).all()


@pytest.mark.parametrize(
    ("synapse", "shape"),
    [
        (Synapse("w", "linear", [[1, 0, 2], [0, 0, 3]]), (3,)),
        (Synapse("w", "linear", [[1, 0, 2], [0, 0, 3]], sparse=True), (3,)),
        (Synapse("w", "linear", [[1, 0, 2, 4], [0, 0, 3, 1]]), (1, 2, 2)),
        (Synapse("w", "sumpool", kernel_size=2), (2, 4, 4)),
        (Synapse("w", "sumpool", [2, 3], kernel_size=(2, 3), stride=1, padding=1), (2, 4, 4)),
        (Synapse("w", "sumpool", kernel_size=3, stride=2), (2, 5, 6)),
        (Synapse("w", "identity"), (2, 3)),
        (Synapse("w", "identity", [1, 0, 2]), (3,)),
    ],
)
def test_fan_out_of_the_others(synapse: Synapse, shape: tuple[int, ...]) -> None:
    assert (fan_out(synapse, shape) == reached(synapse, shape)).all()
    assert fan_out(synapse, shape).shape == shape


def test_fan_out_of_a_sparse_identity() -> None:
    assert fan_out(Synapse("w", "identity", [1, 0, 2], sparse=True), (3, 2)).tolist() == [[1, 1], [0, 0], [1, 1]]


def test_sum_pool_and_identity_by_hand() -> None:
    x = np.arange(8).reshape(1, 2, 2, 2)
    pool = Synapse("p", "sumpool", [1, 3], kernel_size=2, exponent=1)
    assert synapse_current(pool, x).ravel().tolist() == [(0 + 1 + 2 + 3) * 2, (4 + 5 + 6 + 7) * 3 * 2]
    assert synapse_current(Synapse("i", "identity", [2, -1]), x)[0, :, 0, 0].tolist() == [0, -4]
    whole = Synapse("i", "identity", np.arange(8).reshape(2, 2, 2))
    assert synapse_current(whole, x).ravel().tolist() == [n * n for n in range(8)]


def test_sparse_equals_dense() -> None:
    weight = RNG.integers(-9, 10, (5, 12)) * (RNG.random((5, 12)) < 0.3)
    x = RNG.integers(-7, 8, (3, 3, 4))
    sparse, dense = (Synapse("w", "linear", weight, 8, sparse=s, exponent=2) for s in (True, False))
    assert (synapse_current(sparse, x) == synapse_current(dense, x)).all()
    assert (synapse_current(dense, x) == (x.reshape(3, 12) @ weight.T) * 4).all()


@pytest.mark.parametrize(("p", "q", "shift", "made"), [(3, 5, 0, 15), (3, 5, 1, 8), (-3, 5, 1, -7), (7, 7, 3, 6)])
def test_product_rounds_half_up(p: int, q: int, shift: int, made: int) -> None:
    """15/2 = 7.5 -> 8; -15/2 = -7.5 -> -7; 49/8 = 6.125 -> 6."""
    current = product_current(Product("x", shift=shift), np.array([[p]]), np.array([[q]]))
    assert current.tolist() == [[made]]


def test_product_broadcasts_over_space_either_way() -> None:
    p, q = RNG.integers(-5, 6, (2, 3, 2, 2)), RNG.integers(-5, 6, (2, 3))
    want = p * q[:, :, None, None]
    assert (product_current(Product("x"), p, q) == want).all()
    assert (product_current(Product("x"), q, p) == want).all()
    assert (product_current(Product("x"), q[:, :, None, None], p) == want).all()


@pytest.mark.parametrize(
    ("synapse", "payload", "bounds"),
    [
        (Synapse("w", "linear", [[3, -2], [1, 1]]), PayloadType(0, 5), (-10, 15)),
        (Synapse("w", "linear", [[3, -2], [1, 1]]), PayloadType(-4, 5), (-22, 23)),
        (Synapse("w", "linear", [[3, -2], [1, 1]], sparse=True, exponent=2), PayloadType(0, 5), (-40, 60)),
        (Synapse("w", "sumpool", kernel_size=2), PayloadType(0, 5), (0, 20)),
        (Synapse("w", "sumpool", [-1, 2], kernel_size=2), PayloadType(0, 5), (-20, 40)),
        (Synapse("w", "identity", [-3, 2]), PayloadType(-1, 1), (-3, 3)),
        (Synapse("w", "conv2d", [[[[1, -1]]], [[[2, 2]]]]), PayloadType(0, 3), (-3, 12)),
    ],
)
def test_static_bounds_by_hand(synapse: Synapse, payload: PayloadType, bounds: tuple[int, int]) -> None:
    """The largest and smallest of any channel or row."""
    assert current_range(synapse, payload) == bounds


def test_bounds_hold_on_random_currents() -> None:
    for settings in CONVS[::5]:
        synapse = conv(settings)
        lo, hi = current_range(synapse, PayloadType(-7, 15))
        current = synapse_current(synapse, RNG.integers(-7, 16, (50, 4, 5, 5)))
        assert lo <= current.min()
        assert current.max() <= hi


def test_summed_and_mixed_bounds() -> None:
    """Two synapses add up; a window multiplies by the sums of its positive and negative entries."""
    nodes = [
        Input("in", (2,), 0, 3),
        Synapse("a", "linear", [[2, 1], [0, -1]]),
        Synapse("b", "identity", 4),
        Soma("plain", (2,), theta=1),
        Soma("mixed", (2,), theta=1, window=[[1, -2], [3, 0]]),
    ]
    edges = [("in", "a"), ("in", "b"), ("a", "plain"), ("b", "plain"), ("a", "mixed")]
    ranges = current_ranges(Program(nodes=nodes, edges=edges, steps=2))
    assert ranges["plain"] == (-3, 9 + 12)
    assert ranges["mixed"] == (min(-3 - 18, -9), max(9 + 6, 27))


def test_conv2d_int_large_values_stay_exact() -> None:
    big = (1 << 23) - 1
    x, w = np.full((1, 1, 3, 3), big), np.full((1, 1, 3, 3), 127)
    assert conv2d_int(x, w, (1, 1), (0, 0), (1, 1), 1).item() == big * 127 * 9


# numbers


@pytest.mark.parametrize(
    ("v", "factor", "made"),
    [(1, 2048, 0), (-1, 2048, 0), (-3, 2048, -1), (3, -2048, -1), (-3, -2048, 1), (5, 4096, 5), (-7, 4095, -6)],
)
def test_trunc_rounds_toward_zero(v: int, factor: int, made: int) -> None:
    assert trunc4096(np.array(v), np.array(factor)) == made


@pytest.mark.parametrize(
    ("x", "k", "made"),
    [(5, 0, 5), (5, 1, 3), (-5, 1, -2), (6, 2, 2), (-6, 2, -1), (-7, 2, -2), (-8, 4, 0), (-9, 4, -1), (8, 4, 1)],
)
def test_rshift_rounds_half_up(x: int, k: int, made: int) -> None:
    assert rshift(np.array(x), k) == made


@pytest.mark.parametrize(
    ("x", "made"),
    [
        (0, 0),
        ((1 << 23) - 1, (1 << 23) - 1),
        (1 << 23, -(1 << 23)),
        (-(1 << 23), -(1 << 23)),
        (-(1 << 23) - 1, (1 << 23) - 1),
        ((1 << 24) + 5, 5),
        (-(1 << 25) - 3, -3),
    ],
)
def test_wrap24(x: int, made: int) -> None:
    assert wrap24(np.array(x)) == made
