"""Synapse arithmetic at the very edge of its bounds, against int64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from snn2chip_backends.reference.backend import product_current, synapse_current
from snn2chip_backends.torch.columns import column_convolution
from snn2chip_backends.torch.exact import exact_arithmetic
from snn2chip_backends.torch.sparse import runs_sparse
from snn2chip_backends.torch.synapses import product_kernel, synapse_kernel

from snn2chip.ir.geometry import out_shape
from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.types import PayloadType

CPU = torch.device("cpu")


def currents(synapse: Synapse, payload: np.ndarray, top: int) -> torch.Tensor:
    """Current of payloads `[B, *shape]` in -top..top, as the engine computes it (one step)."""
    kernel = synapse_kernel(synapse, PayloadType(-top, top), payload.shape[1:], CPU)
    with exact_arithmetic(CPU):
        return kernel(torch.from_numpy(payload.astype(np.int32))[None])[0]


@pytest.mark.parametrize("exponent", [0, 3])
@pytest.mark.parametrize(
    ("taps", "top", "dtype"),
    [
        (4095, 4097, torch.float32),  # 2^24 - 1
        (4096, 4096, torch.float32),  # 2^24
        (97, 172_961, torch.float64),  # 2^24 + 1: float32 would round it down
        (1, (1 << 24) - 1, torch.float32),
        (2, (1 << 24) - 1, torch.float64),
    ],
)
def test_linear_at_the_edge_of_float32(taps: int, top: int, dtype: torch.dtype, exponent: int) -> None:
    weight = np.ones((2, taps), np.int64)
    weight[1] = -1
    synapse = Synapse("s", "linear", weight, exponent=exponent)
    payload = np.full((3, taps), top)
    payload[1] *= -1
    payload[2, -1] -= 1
    got = currents(synapse, payload, top)
    assert got.dtype == dtype
    total = taps * top
    expected = np.array([[total, -total], [-total, total], [total - 1, 1 - total]]) << exponent
    assert (got.to(torch.int64).numpy() == expected).all()


def test_widest_legal_sum() -> None:
    """A bound just below 2^46, where the contract stops: float64, exact to the last unit."""
    taps, top = 1 << 15, (1 << 24) - 1
    weight = np.full((1, taps), 127)
    payload = np.full((1, taps), top)
    payload[0, 7] = top - 1
    got = currents(Synapse("s", "linear", weight), payload, top)
    assert got.dtype == torch.float64
    assert int(got) == 127 * (taps * top - 1) < 1 << 46


CONVOLUTIONS: list[dict[str, Any]] = [
    {"padding": 1},
    {"padding": 1, "stride": 2},
    {"padding": 2, "dilation": 2},
    {"padding": (0, 2), "stride": (2, 1)},
    {"padding": 1, "groups": 2},
    {"padding": 1, "groups": 32},
]


def extreme_payloads(rng: np.random.Generator, shape: tuple[int, ...], top: int) -> np.ndarray:
    """Mostly the largest magnitudes side by side with +-1: what transforms such as Winograd lose first."""
    return rng.choice([top, -top, top - 1, 1, -1, 0], size=shape, p=[0.3, 0.3, 0.1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("batch", [1, 16, 33])
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolutions_with_extreme_values(options: dict[str, Any], batch: int) -> None:
    """Shapes for which libraries like to take Winograd or FFT, partial sums up to just below 2^24."""
    rng = np.random.default_rng(batch)
    groups = options.get("groups", 1)
    weight = rng.choice([127, -127, 126, 1], size=(32, 32 // groups, 3, 3))
    top = ((1 << 24) - 1) // int(np.abs(weight).sum((1, 2, 3)).max())
    synapse = Synapse("s", "conv2d", weight, **options)
    payload = extreme_payloads(rng, (batch, 32, 9, 8), top)
    got = currents(synapse, payload, top)
    assert got.dtype == torch.float32
    assert (got.to(torch.int64).numpy() == synapse_current(synapse, payload)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_columns_are_the_same_convolution(options: dict[str, Any], pruned: bool, dtype: torch.dtype) -> None:
    """The path of CUDA, float64 and pruned convolutions, in several parts."""
    rng = np.random.default_rng(5)
    weight = rng.integers(-127, 128, size=(32, 32 // options.get("groups", 1), 3, 3))
    if pruned:
        weight = np.where(rng.random(weight.shape) < 0.05, weight, 0)
        weight[0, 0, 1, 1] = 5
    synapse = Synapse("s", "conv2d", weight, exponent=2, sparse=pruned, **options)
    assert runs_sparse(synapse) is pruned
    payload = rng.integers(-8, 9, size=(40, 32, 12, 11))
    convolve = column_convolution(synapse, dtype, payload.shape[1:], CPU)
    with exact_arithmetic(CPU):
        got = convolve(torch.from_numpy(payload.astype(np.int8)))
    assert got.dtype == dtype
    assert (got.to(torch.int64).numpy() == synapse_current(synapse, payload)).all()


@pytest.mark.parametrize("top", [100, 1 << 20])
@pytest.mark.parametrize("density", [0.02, 0.5])
def test_sparse_linear(density: float, top: int) -> None:
    rng = np.random.default_rng(3)
    weight = sparse.random(50, 120, density, format="csr", random_state=1)
    weight.data = rng.choice([127, -127, 1], size=weight.nnz)
    synapse = Synapse("s", "linear", weight, exponent=1)
    assert runs_sparse(synapse) is (density < 0.1)
    payload = extreme_payloads(rng, (7, 120), top)
    dense = synapse.dense()
    got = currents(synapse, payload.reshape(7, 10, 12), top)
    assert (got.to(torch.int64).numpy() == (payload @ dense.T) * 2).all()


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": (3, 2), "stride": 1, "padding": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1, "weight": [3, -1, 2]},
        {"kernel_size": (8, 7), "weight": -5, "exponent": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("top", [1, 255, (1 << 23) - 1])
def test_sum_pools(options: dict[str, Any], top: int) -> None:
    weight = np.array(options.get("weight", 1))
    synapse = Synapse("s", "sumpool", weight, **{k: v for k, v in options.items() if k != "weight"})
    payload = extreme_payloads(np.random.default_rng(1), (4, 3, 8, 7), top)
    got = currents(synapse, payload, top)
    assert got.shape[1:] == out_shape(synapse, (3, 8, 7))[0]
    assert (got.to(torch.int64).numpy() == synapse_current(synapse, payload)).all()


@pytest.mark.parametrize("weight", [1, -128, [1, 2, -3], np.arange(-3, 3).reshape(3, 2)], ids=str)
def test_identities(weight: Any) -> None:
    synapse = Synapse("s", "identity", np.array(weight), exponent=16)
    payload = extreme_payloads(np.random.default_rng(2), (5, 3, 2), (1 << 23) - 1)
    got = currents(synapse, payload, (1 << 23) - 1)
    factor = np.array(weight).reshape(-1, 1) if np.ndim(weight) == 1 else np.array(weight)
    assert (got.to(torch.int64).numpy() == payload * factor * 65536).all()


@pytest.mark.parametrize("shift", [0, 1, 30])
@pytest.mark.parametrize("gate", [(3,), (3, 1, 1), (3, 4, 2)])
@pytest.mark.parametrize("swapped", [False, True])
def test_products(gate: tuple[int, ...], shift: int, swapped: bool) -> None:
    rng, top = np.random.default_rng(4), (1 << 23) - 1
    p, q = extreme_payloads(rng, (6, 3, 4, 2), top), extreme_payloads(rng, (6, *gate), top)
    pair = (q, p) if swapped else (p, q)
    product = Product("g", shift=shift)
    kernel = product_kernel(product, [PayloadType(-top, top)] * 2, [x.shape[1:] for x in pair], CPU)
    got = kernel(*(torch.from_numpy(x)[None] for x in pair))[0]
    wide = p * q.reshape(6, 3, *((1, 1) if len(gate) == 1 else gate[1:]))
    expected = (wide + ((1 << shift) >> 1)) >> shift
    assert (got.numpy() == expected).all()
    assert (product_current(product, *pair) == expected).all()
