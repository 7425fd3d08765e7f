"""Products on matrix units: chosen by bounds alone, exact at every limit, the reference's integers in every program."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from snn2chip_backends.reference.backend import synapse_current
from snn2chip_backends.torch import TorchBackend, int8, plan, synapses, tensor_cores
from snn2chip_backends.torch.tensor_cores import UNITS, Unit, choose_unit, extreme_operands, is_sound, units_of

from snn2chip.errors import MachineWarning
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.types import IntArray, PayloadType
from snn2chip.testing.conformance import run_conformance

sys.path.insert(0, str(Path(__file__).parent))
from plain_triton import has_triton, load_kernels

CPU = torch.device("cpu")
INT8, BFLOAT16, FLOAT16 = UNITS
HOPPER = (9, 0)
BYTES, BINARY = PayloadType(-128, 127), PayloadType(0, 1)


@pytest.mark.parametrize(
    ("payload", "weights", "bound", "capability", "unit"),
    [
        (BINARY, BYTES, (1 << 31) - 1, HOPPER, INT8),
        (BINARY, BYTES, 1 << 31, HOPPER, None),
        (BINARY, BYTES, (1 << 24) - 1, (8, 0), INT8),
        (BINARY, BYTES, 9, (7, 9), None),
        (PayloadType(0, 127), BYTES, 9, HOPPER, INT8),
        (PayloadType(0, 128), BYTES, 9, HOPPER, BFLOAT16),
        (PayloadType(-129, 0), BYTES, 9, HOPPER, BFLOAT16),
        (PayloadType(-256, 256), BYTES, (1 << 24) - 1, HOPPER, BFLOAT16),
        (PayloadType(-256, 256), BYTES, 1 << 24, HOPPER, None),
        (PayloadType(0, 257), BYTES, 9, HOPPER, FLOAT16),
        (PayloadType(-2048, 2048), BYTES, (1 << 24) - 1, HOPPER, FLOAT16),
        (PayloadType(0, 2049), BYTES, 9, HOPPER, None),
        (BINARY, PayloadType(-129, 0), 9, HOPPER, BFLOAT16),
        (BINARY, PayloadType(0, 257), 9, HOPPER, FLOAT16),
    ],
)
def test_the_unit_follows_from_bounds_and_capability(
    payload: PayloadType, weights: PayloadType, bound: int, capability: tuple[int, int], unit: Unit | None
) -> None:
    assert choose_unit(payload, weights, bound, units_of(capability)) == unit


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_operands_at_the_limit_are_exact_in_the_type_and_beyond_are_not(unit: Unit) -> None:
    """Every integer of the range is its own value in the type; the next one in magnitude is not."""
    values = torch.arange(unit.lo, unit.hi + 1)
    assert bool((values.to(unit.dtype).to(torch.int64) == values).all())
    assert int(torch.tensor(unit.hi + 1).to(unit.dtype)) != unit.hi + 1


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_operands_try_every_sign_and_the_largest_sum(unit: Unit) -> None:
    """The largest sum with all terms of one sign, with the other, and alternating; operands at both ends."""
    weights, payloads = extreme_operands(unit)
    largest = int(payloads[0] @ weights[0])
    assert unit.sums - 1 - unit.hi <= largest < unit.sums or unit.name == "int8"
    assert min(256, (unit.sums - 1) // unit.hi**2) * unit.hi**2 <= largest < unit.sums
    for operands in (weights, payloads):
        assert (operands[1] == -operands[0]).all()
        assert (np.abs(operands[2]) == operands[0]).all()
        assert int(operands[2].min()) < 0 < int(operands[2].max())
        assert unit.lo == operands.min()
    assert (np.sign(weights[2][:8]) == [1, -1] * 4).all() or (np.sign(weights[2][:8]) == [-1, 1] * 4).all()
    assert set(weights[4].tolist()) == {-1, 1}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_sums_that_are_allowed_survive_truncation_to_24_bits(unit: Unit) -> None:
    """A model of the unit: terms aligned to the largest of eight and what is summed, cut off behind 24 bits."""
    weights, payloads = extreme_operands(unit)
    if unit is INT8:
        assert int(np.abs(payloads[0]) @ np.abs(weights[0])) < 1 << 31
        return
    assert int(np.abs(payloads[0]) @ np.abs(weights[0])) == (1 << 24) - 1
    exact = 0
    for w, p in ((w, p) for w in weights for p in payloads if int(np.abs(w) @ np.abs(p)) < unit.sums):
        assert _truncating(w * p) == int(w @ p)
        exact += 1
    assert exact > 20
    ones = np.array([*(1 << 21,) * 8, -1, -1, -1], np.int64)
    assert _truncating(ones) != ones.sum()  # the limit itself, 2^24, would not do


def _truncating(products: IntArray) -> int:
    """Sum of whole numbers by eights, each term cut to the 24 bits below the top bit of the largest one."""
    total = 0
    for first in range(0, len(products), 8):
        terms = [total, *(int(x) for x in products[first : first + 8])]
        lost = max(max(abs(x) for x in terms).bit_length() - 24, 0)
        total = sum((abs(x) >> lost << lost) * (1 if x >= 0 else -1) for x in terms)
    return total


@pytest.fixture(scope="module")
def kernels() -> object:
    """The kernels, run on CPU tensors."""
    return load_kernels("snn2chip_backends.torch.triton_products")


@pytest.fixture
def on_units(kernels: object, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let synapses on the CPU take the kernels of these units."""

    def use(*units: Unit) -> None:
        if BFLOAT16 in units and has_triton():
            if units == (BFLOAT16,):
                pytest.skip("Triton's own interpreter multiplies the bits of bfloat16 as whole numbers")
            units = (INT8, FLOAT16)
        monkeypatch.setattr(plan, "_PLANS", WeakKeyDictionary())
        monkeypatch.setattr(tensor_cores, "product_kernels", lambda device: kernels)
        monkeypatch.setattr(synapses, "sound_units", lambda device: units)
        monkeypatch.setattr(int8, "products_of_bytes", lambda: None)

    return use


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_extreme_products_come_out_exactly(unit: Unit, on_units: Callable[..., None]) -> None:
    on_units(unit)
    assert is_sound(unit, CPU)


def test_a_unit_that_adds_wrongly_is_not_sound(on_units: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose sums have a bit less, and one that drops a term."""
    on_units(BFLOAT16)
    real = tensor_cores.Product.linear
    for wrong in (lambda x: x & ~1, lambda x: torch.where(x.abs() < 1 << 23, x, x >> 2 << 2)):
        monkeypatch.setattr(tensor_cores.Product, "linear", lambda self, p, wrong=wrong: wrong(real(self, p)))
        assert not is_sound(BFLOAT16, CPU)


def test_a_unit_whose_kernel_cannot_run_is_left_alone(
    on_units: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> torch.Tensor:
        raise OSError("ptxas exited with 255")

    on_units(INT8)
    monkeypatch.setattr(tensor_cores.Product, "linear", broken)
    with pytest.warns(MachineWarning, match="int8 products are not used on cpu: ptxas"):
        assert not is_sound(INT8, CPU)


CONVOLUTIONS: list[dict[str, Any]] = [
    {"padding": 1},
    {"padding": (0, 2), "stride": (2, 1), "dilation": (1, 2)},
    {"padding": 1, "groups": 2, "exponent": 3},
]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("channels", [6, 64])
def test_convolutions(unit: Unit, options: dict[str, Any], channels: int, on_units: Callable[..., None]) -> None:
    """Both ways to gather payloads (whole taps, single terms), both orders of memory, operands at their limits."""
    on_units(unit)
    rng = np.random.default_rng(1)
    groups = options.get("groups", 1)
    weight = rng.choice([-128, 127, 3], size=(10, channels // groups, 3, 3))
    synapse = Synapse("s", "conv2d", weight, **options)
    top = min(unit.hi, ((unit.sums - 1) // (128 * 9 * channels)))
    payload = rng.integers(-top, top + 1, size=(2, channels, 5, 6))
    got = currents(synapse, payload, top)
    assert (got.to(torch.int64).numpy() == synapse_current(synapse, payload)).all()
    assert got.stride(1) == 1  # channels last
    assert got.dtype in (torch.int16, torch.int32)


@pytest.mark.parametrize(("top", "dtype"), [(31, torch.int16), (32, torch.int32)])
def test_small_currents_leave_as_int16(top: int, dtype: torch.dtype, on_units: Callable[..., None]) -> None:
    """|current| <= 1024 * top: below 2^15 in two bytes."""
    on_units(FLOAT16)
    synapse = Synapse("s", "linear", np.full((3, 16), 64))
    got = currents(synapse, np.full((2, 16), top), top)
    assert got.dtype == dtype
    assert (got == 1024 * top).all()


def currents(synapse: Synapse, payload: IntArray, top: int) -> torch.Tensor:
    """Currents of payloads `[B, *shape]` in -top..top as the engine computes them (one step)."""
    kernel = synapses.synapse_kernel(synapse, PayloadType(-top, top), payload.shape[1:], CPU)
    return kernel(torch.from_numpy(payload.astype(PayloadType(-top, top).dtype()))[None])[0]


@pytest.mark.parametrize("exponent", [0, 8])
def test_linear_by_library_and_by_kernel(
    exponent: int, on_units: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fan-ins that cuBLASLt takes and others; sums of more than 31 bits leave as int64."""
    on_units(*UNITS)
    calls: list[torch.Size] = []

    def int_mm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert a.dtype == b.dtype == torch.int8
        assert a.shape[0] > 16
        assert a.shape[1] % 8 == b.shape[1] % 8 == 0
        calls.append(a.shape)
        return a.to(torch.int32) @ b.to(torch.int32)

    monkeypatch.setattr(tensor_cores, "BYTES_ON", ("cpu",))
    monkeypatch.setattr(torch, "_int_mm", int_mm)
    rng = np.random.default_rng(2)
    for fan_in, rows, top in ((64, 40, 127), (64, 3, 127), (61, 40, 127), (64, 40, 200), (1024, 40, 127)):
        synapse = Synapse("s", "linear", rng.choice([-128, 127], size=(9, fan_in)), exponent=exponent)
        payload = rng.choice([-top, top], size=(rows, fan_in))
        before = len(calls)
        got = currents(synapse, payload, top)
        assert (got.to(torch.int64).numpy() == synapse_current(synapse, payload)).all()
        wide = 128 * top * fan_in << exponent >= 1 << 31
        assert (got.dtype == torch.int64) == wide
        assert len(calls) - before == (rows >= 32 and fan_in % 8 == 0 and top <= 127 and not wide)


@pytest.mark.parametrize("units", [UNITS, (FLOAT16,)], ids=len)
def test_covering_programs(units: tuple[Unit, ...], on_units: Callable[..., None]) -> None:
    on_units(*units)
    report = run_conformance(TorchBackend())
    report.raise_if_failed()
    assert len(report.results) >= 90
