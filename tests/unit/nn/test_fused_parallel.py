"""The parallel neuron's kernel on the CPU: bit by bit what the torch code sends, or the torch code itself."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from snn2chip.nn import ParallelNeuron
from snn2chip.nn.fused import plain_neurons

sys.path.insert(0, str(Path(__file__).parent))
from fused_cases import LAYOUTS, currents

pytest.importorskip("numba", reason="the compiled neurons need numba")
from snn2chip.nn.fused import at_once_kernels

CONSTANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "numbers": {"theta": 0.75, "psi": 0.1, "phi": -0.2},
    "negative payload": {"theta": 0.75, "phi": -1.5},
    "channels": {
        "theta": [0.5, 1.0, 0.25, 1.5, 0.3],
        "psi": [0.1, -0.2, 0.0, 0.4, 0.5],
        "phi": [0.0, 0.1, -0.6, 0.2, 0],
    },
    "one of them": {"theta": 0.5, "psi": 0.2, "phi": [0.0, 0.1, -0.6, 0.2, 0.3]},
}


def neuron(steps: int, constants: str, **args: Any) -> ParallelNeuron:
    given: dict[str, Any] = {key: torch.tensor(value) for key, value in CONSTANTS[constants].items()}
    return ParallelNeuron(steps=steps, **given, **args)


def by_torch(layer: ParallelNeuron, x: Tensor) -> Tensor:
    with plain_neurons():
        return layer(x)


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("constants", CONSTANTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_payloads_bit_by_bit(layout: str, constants: str, order: Any) -> None:
    x = currents(4, layout, torch.float32)
    layer = neuron(4, constants, order=order)
    with mock.patch.object(at_once_kernels, "forward", wraps=at_once_kernels.forward) as called:
        got = layer(x)
    assert called.call_count == 1
    assert same_bits(got, by_torch(layer, x))


@pytest.mark.parametrize("steps", [1, 2, 7, 16, 64])
def test_every_count_at_its_threshold(steps: int) -> None:
    """Sums on, just below and beyond every multiple of theta give the count of the equation, in rationals."""
    sums = [Fraction(k, 4) + Fraction(e, 1 << 12) for k in range(-2, 4 * steps + 6) for e in (-1, 0, 1)]
    x = torch.zeros(steps, 1, len(sums))
    x[0, 0] = torch.tensor([float(s) for s in sums])
    layer = ParallelNeuron(steps=steps, theta=1.0, psi=0.25)
    got = layer(x)[:, 0]
    expected = [min(max((s + Fraction(1, 4)) // 1, 0), steps) for s in sums]
    assert got.sum(0).tolist() == expected
    assert all(bool((got[:-1, i] >= got[1:, i]).all()) for i in range(len(sums)))


def test_blocks_and_threads_and_what_is_no_number() -> None:
    x = torch.randn(3, 2, 150_001, generator=torch.Generator().manual_seed(0))
    x[1, 0, 5], x[1, 0, 6], x[1, 1, 7] = float("nan"), float("inf"), -float("inf")
    layer = neuron(3, "numbers")
    assert same_bits(layer(x), by_torch(layer, x))


@pytest.mark.parametrize(
    ("x", "args"),
    [
        (torch.randn(4, 2, 5, dtype=torch.float64), {}),
        (torch.randn(4, 2, 5).to(torch.bfloat16), {}),
        (torch.randn(4, 0, 5), {}),
        (torch.randn(4, 2, 5), {"evaluation": "matrix"}),
        (torch.randn(4, 2, 5), {"evaluation": "search"}),
    ],
    ids=["float64", "bfloat16", "nothing", "matrix", "search"],
)
def test_what_has_no_kernel(x: Tensor, args: dict[str, Any]) -> None:
    layer = neuron(4, "channels", **args)
    with mock.patch.object(at_once_kernels, "forward", side_effect=AssertionError("no kernel for this")):
        assert torch.equal(layer(x), by_torch(layer, x))


def test_compiled_by_torch_it_is_one_graph_of_the_same_payloads() -> None:
    torch._dynamo.reset()
    layer, x = neuron(4, "channels"), currents(4, "rows", torch.float32)
    assert torch.equal(torch.compile(layer, backend="eager", fullgraph=True)(x), layer(x))
