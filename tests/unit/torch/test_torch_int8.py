"""Products of bytes: exact up to every bound, refused one step beyond, equal to int64 at adversarial extremes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from snn2chip_backends.torch import int8
from snn2chip_backends.torch.bounds import partial_bound
from snn2chip_backends.torch.exact import exact_arithmetic
from snn2chip_backends.torch.synapses import synapse_kernel

from snn2chip.ir.host import conv2d_int
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.types import PayloadType
from snn2chip.threads import torch_threads

CPU = torch.device("cpu")
needs_bytes = pytest.mark.skipif(
    int8.products_of_bytes() is None, reason="no VNNI, or no such operators in this PyTorch"
)


def linear_synapse(*rows: list[int], exponent: int = 0) -> Synapse:
    return Synapse("s", "linear", np.array(rows), exponent=exponent)


def digits(synapse: Synapse, lo: int, hi: int) -> int:
    return int8.digits(synapse, PayloadType(lo, hi), partial_bound(synapse, 1))


def test_what_bytes_may_hold() -> None:
    """One digit up to 127, two up to 2^14 - 1; weights of 8 signed bits; no negative payloads."""
    plain = linear_synapse([127, -128])
    assert [digits(plain, 0, hi) for hi in (1, 127, 128, 255, 16383, 16384)] == [1, 1, 2, 2, 2, 0]
    assert digits(plain, -1, 1) == 0
    assert digits(linear_synapse([128, 0]), 0, 1) == 0
    assert digits(linear_synapse([-129, 0]), 0, 1) == 0


@pytest.mark.parametrize(("row", "hi", "expected"), [(2**17, 127, 1), (2**17 + 1057, 127, 0), (2**17, 1, 1)])
def test_sums_stay_within_float32(row: int, hi: int, expected: int) -> None:
    """sum |w| * digit <= 2^24: 2^17 * 127 is below, (2^17 + 1057) * 127 = 2^24 + 23 is above."""
    weight = np.full(row // 127 + 1, 127)
    weight[-1] = row % 127
    assert int(weight.sum()) == row
    assert (row * 127 > 1 << 24) == (row == 2**17 + 1057)
    assert digits(linear_synapse(list(weight)), 0, hi) == expected


@needs_bytes
@pytest.mark.parametrize("exponent", [0, 5])
@pytest.mark.parametrize("batch", [1, 2, 40])
@pytest.mark.parametrize("hi", [1, 127, 128, 255, 16383])
@pytest.mark.parametrize("fan_in", [63, 1030])
def test_linear_extremes(fan_in: int, hi: int, batch: int, exponent: int) -> None:
    """Rows of largest and smallest weights, of alternating signs and of single odd ones, largest payloads."""
    ends = [[127] * fan_in, [-128] * fan_in, [127, -128] * (fan_in // 2) + [1] * (fan_in % 2), [1] + [0] * (fan_in - 1)]
    synapse = linear_synapse(*(ends * 40), exponent=exponent)
    p = np.stack([np.full(fan_in, hi), np.arange(fan_in) % 2 * hi, np.arange(fan_in) % (hi + 1)] * 14)[:batch]
    assert digits(synapse, 0, hi) > 0
    expected = (p @ synapse.weight.T) << exponent
    check(synapse, PayloadType(0, hi), p, expected)


@needs_bytes
@pytest.mark.parametrize("hi", [1, 127, 255])
@pytest.mark.parametrize(
    ("shape", "weight", "options"),
    [
        ((16, 8, 8), (16, 16, 3, 3), {"padding": 1}),
        ((16, 9, 7), (33, 16, 3, 3), {"padding": 2, "stride": (2, 1)}),
        ((64, 4, 4), (64, 64, 3, 3), {"padding": 1, "exponent": 3}),
        ((24, 8, 8), (24, 1, 3, 3), {"groups": 24, "padding": 1}),
        ((32, 8, 8), (64, 8, 3, 3), {"groups": 4, "padding": 1}),
        ((16, 12, 12), (32, 16, 3, 3), {"dilation": 2}),
        ((64, 1, 1), (128, 64, 1, 1), {}),
        ((3, 16, 16), (32, 3, 5, 5), {"stride": 2, "padding": 2}),
    ],
)
def test_convolution_extremes(shape: Any, weight: Any, options: dict[str, Any], hi: int) -> None:
    """Full planes of the largest payload against channels of the largest weights of both signs, and random ones."""
    rng = np.random.default_rng(0)
    w = rng.integers(-128, 128, size=weight)
    w[0], w[1] = 127, -128
    w[2] = np.where(np.arange(w[2].size).reshape(w[2].shape) % 2, 127, -128)
    synapse = Synapse("s", "conv2d", w, **options)
    p = np.stack([np.full(shape, hi), rng.integers(0, hi + 1, size=shape), rng.choice([0, hi], size=shape)])
    s = synapse
    expected = conv2d_int(p, w, s.stride, s.padding, s.dilation, s.groups) << s.exponent
    assert digits(synapse, 0, hi) > 0
    check(synapse, PayloadType(0, hi), p, expected)


def check(synapse: Synapse, payload: PayloadType, p: np.ndarray, expected: np.ndarray) -> None:
    """The kernel equals `expected`, with one and two threads, for every type a payload may come in."""
    kernel = synapse_kernel(synapse, payload, p.shape[1:], CPU)
    for threads in (1, 2):
        for kind in {payload.dtype(), np.int32}:
            with torch_threads(threads), exact_arithmetic(CPU):
                got = kernel(torch.from_numpy(p.astype(kind))[None])[0]
            assert (got.to(torch.int64).numpy() == expected).all()
            assert (got.to(torch.float64) % 1 == 0).all()


@needs_bytes
def test_the_kernels_above_are_products_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = int8.in_digits
    monkeypatch.setattr(int8, "in_digits", lambda *a: (calls.append("bytes"), real(*a))[1])
    synapse_kernel(Synapse("s", "conv2d", np.ones((16, 16, 3, 3), int)), PayloadType(0, 1), (16, 8, 8), CPU)
    synapse_kernel(linear_synapse(*[[127] * 64] * 64), PayloadType(0, 127), (64,), CPU)
    assert calls == ["bytes"] * 2
    synapse_kernel(linear_synapse(*[[127] * 64] * 64), PayloadType(-1, 127), (64,), CPU)
    synapse_kernel(linear_synapse(*[[127] * 63] * 64), PayloadType(0, 1), (63,), CPU)  # too small to be worth it
    assert calls == ["bytes"] * 2


OLDER = """
import numpy as np, torch
from snn2chip_backends.torch import int8
library = torch.ops.onednn
assert int8._tried(library)
for fan_in in (64, 576, 1030):
    rows = np.array([[127] * fan_in, [-128] * fan_in, [127, -128] * (fan_in // 2)] * 12)
    full = np.full((5, fan_in), 127)
    multiply = int8._Linear(library, torch.from_numpy(rows.astype(np.int8)), 1.0)
    assert (multiply(torch.from_numpy(full.astype(np.uint8))).numpy() == full @ rows.T).all()
w = np.where(np.arange(32 * 16 * 9).reshape(32, 16, 3, 3) % 3, 127, -128)
conv = int8._Convolution(library, torch.from_numpy(w.astype(np.int8)), 1.0, ((1, 1), (1, 1), (1, 1)), 1, (2, 16, 8, 8))
p = torch.full((2, 16, 8, 8), 127, dtype=torch.uint8)
exact = torch.nn.functional.conv2d(p.double(), torch.from_numpy(w).double(), padding=1)
assert (conv(p).double() == exact).all()
print("exact")
"""


@pytest.mark.parametrize("isa", ["AVX512_CORE", "AVX2", "AVX512_CORE_VNNI"])
@needs_bytes
def test_exact_on_older_instruction_sets_too(isa: str) -> None:
    """Without VNNI pairs of products are added in 16 bits with saturation: digits up to 127 never reach it."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", OLDER], env=environment, capture_output=True, timeout=300, check=False, text=True
    )
    assert done.stdout.strip() == "exact", done.stderr[-2000:]


SATURATES = """
import torch
from snn2chip_backends.torch import int8
multiply = int8._Linear(torch.ops.onednn, torch.full((64, 256), 127, dtype=torch.int8), 1.0)
print([bool((multiply(torch.full((4, 256), p, dtype=torch.uint8)) == 127 * 256 * p).all()) for p in (127, 255)])
"""


@needs_bytes
def test_a_digit_of_8_bits_would_not_be_exact_everywhere() -> None:
    """The control: pairs of 255 * 127 saturate where 127 * 127 do not."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    code = [sys.executable, "-c", SATURATES]
    done = subprocess.run(code, env=environment, capture_output=True, timeout=300, check=True, text=True)
    assert done.stdout.strip() == "[True, False]"


@pytest.mark.skipif(int8.products_of_bytes() is None, reason="no products of bytes here")
def test_the_library_is_tried_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extreme products in both forms; a sum off by one, or of another type, and its products are left alone."""
    library = torch.ops.onednn
    assert int8._tried(library) is True
    for form in (int8._Linear, int8._Convolution):
        true = form.__call__
        with monkeypatch.context() as patch:
            patch.setattr(form, "__call__", lambda self, x, true=true: true(self, x) + 1)
            assert int8._tried(library) is False
    true = int8._Linear.__call__
    monkeypatch.setattr(int8._Linear, "__call__", lambda self, x: true(self, x).double())
    assert int8._tried(library) is False
