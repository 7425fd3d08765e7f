"""Sums over squares taken out of convolutions: the same integers, only where every weight repeats, at every bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from snn2chip_backends.torch import int8, pooled
from snn2chip_backends.torch.exact import exact_arithmetic
from snn2chip_backends.torch.pooled import pool, pooled_payload, unpooled
from snn2chip_backends.torch.synapses import synapse_kernel

from snn2chip.ir.host import conv2d_int
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.types import PayloadType

CPU = torch.device("cpu")


def repeated(small: Any, f: int, **options: Any) -> Synapse:
    """A convolution whose kernel repeats every weight of `small` f x f times."""
    return Synapse("s", "conv2d", np.asarray(small).repeat(f, 2).repeat(f, 3), **options)


CASES: dict[str, tuple[Synapse, tuple[int, int, int], int | None]] = {
    "3x3 behind 2x2": (repeated(np.arange(-27, 27).reshape(2, 3, 3, 3), 2, stride=2, padding=2), (3, 8, 6), 2),
    "1x1 behind 4x4": (repeated(np.arange(6).reshape(2, 3, 1, 1), 4, stride=4), (3, 8, 8), 4),
    "stride of its own": (repeated(np.arange(54).reshape(2, 3, 3, 3), 2, stride=4, padding=2), (3, 16, 8), 2),
    "odd size": (repeated(np.arange(6).reshape(2, 3, 1, 1), 2, stride=2), (3, 7, 8), None),
    "odd padding": (repeated(np.arange(54).reshape(2, 3, 3, 3), 2, stride=2, padding=1), (3, 8, 8), None),
    "stride 1": (repeated(np.arange(6).reshape(2, 3, 1, 1), 2, stride=1), (3, 8, 8), None),
    "nothing repeats": (Synapse("s", "conv2d", np.arange(24).reshape(2, 3, 2, 2), stride=2), (3, 8, 8), None),
    "groups": (repeated(np.arange(8).reshape(8, 1, 1, 1), 2, stride=2, groups=4), (4, 4, 4), 2),
}


@pytest.mark.parametrize("name", CASES)
def test_what_can_be_taken_out(name: str) -> None:
    synapse, shape, f = CASES[name]
    found = unpooled(synapse, shape)
    assert (found and found[0]) == f
    if found:
        small = found[1]
        assert small.kernel_size == tuple(n // f for n in synapse.kernel_size) == small.weight.shape[2:]
        assert {type(n) for n in (*small.kernel_size, *small.stride, *small.padding)} == {int}


def test_one_weight_that_differs_keeps_the_whole_kernel() -> None:
    weight = np.full((2, 3, 6, 6), 5)
    assert unpooled(Synapse("s", "conv2d", weight, stride=2, padding=2), (3, 8, 8)) is not None
    weight[1, 2, 5, 4] = 6
    assert unpooled(Synapse("s", "conv2d", weight, stride=2, padding=2), (3, 8, 8)) is None


@pytest.mark.parametrize("road", ["compiled", "library", "no bytes"])
@pytest.mark.parametrize("hi", [1, 31, 32, 127, 8191, (1 << 23) - 1])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2]])
def test_same_integers(name: str, hi: int, road: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of 4 payloads fit a byte up to 31 and leave it at 32; the widest payloads need float64."""
    monkeypatch.setattr(int8, "LARGE", 0)
    if road == "library":
        monkeypatch.setattr(pooled, "compiled_pass", lambda: None)
    if road == "no bytes":
        monkeypatch.setattr(int8, "products_of_bytes", lambda: None)
    synapse, shape, _ = CASES[name]
    rng, payload = np.random.default_rng(0), PayloadType(0, hi)
    p = np.stack([np.full(shape, hi), rng.integers(0, hi + 1, size=shape), rng.choice([0, hi], size=shape)])
    kernel = synapse_kernel(synapse, payload, shape, CPU)
    with exact_arithmetic(CPU):
        got = kernel(torch.from_numpy(p.astype(payload.dtype()))[None])[0].to(torch.int64)
    s = synapse
    assert (got.numpy() == conv2d_int(p, s.weight, s.stride, s.padding, s.dilation, s.groups)).all()


@pytest.mark.parametrize("f", [2, 3, 4])
def test_sums_of_bytes(f: int) -> None:
    """Sums up to 127 stay bytes; one step beyond they do not."""
    top = 127 // (f * f)
    assert pooled_payload(PayloadType(0, top), f).dtype() is np.int8
    assert pooled_payload(PayloadType(0, top + 1), f).dtype() is not np.int8
    p = torch.full((2, 5, 2 * f, 3 * f), top, dtype=torch.int8)
    p[0, 3, f, 1] = 0
    sums = pool(f, pooled_payload(PayloadType(0, top), f))(p)
    expected = torch.full((2, 5, 2, 3), top * f * f, dtype=torch.int64)
    expected[0, 3, 1, 0] -= top
    assert (sums.to(torch.int64) == expected).all()
