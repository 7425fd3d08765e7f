"""Emission rules on every tie, against plain Python integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from snn2chip_backends.torch.firing import RUNGS, emission

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import NEVER, V_MAX

CPU = torch.device("cpu")


def spikes(soma: Soma, v: np.ndarray, dtype: torch.dtype = torch.int32) -> np.ndarray:
    """s of potentials `[B, *shape]`."""
    return emission(soma, dtype, CPU)(torch.from_numpy(v).to(dtype), 0).to(torch.int64).numpy()


def counted(v: int, theta: int, levels: int) -> int:
    """The definition: how many k in 1..levels have v >= k*theta, by what it means for each sign of theta."""
    if theta > 0:
        return max(0, min(levels, v // theta))
    if theta == 0:
        return levels if v >= 0 else 0
    return max(0, min(levels, levels + 1 - max(1, -(v // -theta))))


def test_the_definition_in_closed_form() -> None:
    for theta in (-3, -1, 0, 1, 4):
        for v in range(-12, 13):
            assert counted(v, theta, 5) == sum(v >= k * theta for k in range(1, 6))


@pytest.mark.parametrize("theta", [1, 2, 3, 5, 7, 49, 1000, 4095, 4097, 65_537, 1_234_567, 4_194_303, V_MAX])
def test_division_on_every_tie(theta: int) -> None:
    """Below, on and above every multiple of theta that fits (all of them, or 200,000), both signs."""
    levels = V_MAX // theta
    step = max(1, levels // 200_000)
    ties = np.arange(0, levels + 1, step) * theta
    v = np.concatenate([ties, ties - 1, ties + 1, -ties, [V_MAX, -V_MAX]])
    v = np.clip(v, -V_MAX, V_MAX)
    s = spikes(Soma("n", 1, theta=theta, levels=max(3, levels), ladder=False), v[:, None])
    assert (s.ravel() == np.clip(v // theta, 0, max(3, levels))).all()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("levels", [1, 2, 3, 200])
@pytest.mark.parametrize("theta", [-(1 << 23), -7, -1, 0, 1, 9, NEVER])
def test_levels_for_every_sign_of_theta(theta: int, levels: int, dtype: torch.dtype) -> None:
    v = np.array([-V_MAX, -1401, -1400, -1399, -14, -8, -7, -6, -1, 0, 1, 6, 7, 8, 9, 10, 17, 18, 1800, V_MAX])
    soma = Soma("n", 1, theta=theta, levels=levels, reset="zero")
    expected = [counted(int(x), theta, levels) for x in v]
    assert spikes(soma, v[:, None], dtype).ravel().tolist() == expected


def test_signs_and_levels_mixed_per_channel() -> None:
    thetas, levels = (-2, 0, 3, NEVER), (1, 5, 2, 7)
    soma = Soma("n", (4, 2), theta=thetas, levels=levels, reset="zero")
    v = np.arange(-12, 12).reshape(3, 4, 2)
    found = spikes(soma, v)
    for index, value in np.ndenumerate(v):
        assert found[index] == counted(int(value), thetas[index[1]], levels[index[1]])


@pytest.mark.parametrize("levels", [1, 4, RUNGS, RUNGS + 1, 60])
@pytest.mark.parametrize("width", ["shared", "channel", "neuron"])
def test_ladders_by_compares_and_by_search(levels: int, width: str) -> None:
    rng = np.random.default_rng(levels)
    shape = {"shared": (1,), "channel": (3,), "neuron": (3, 2)}[width]
    ladder = np.sort(rng.integers(-20, 20, size=(levels, *shape)), axis=0)
    v = rng.integers(-25, 25, size=(11, 3, 2))
    soma = Soma("n", (3, 2), theta=ladder, levels=levels, reset="drop", ladder=True)
    bars = ladder.reshape(levels, 1, *({"shared": (1, 1), "channel": (3, 1), "neuron": (3, 2)}[width]))
    assert (spikes(soma, v) == (v >= bars).sum(0)).all()
    fewer = Soma("n", (3, 2), theta=ladder, levels=[levels, 1, max(1, levels // 2)], reset="drop", ladder=True)
    top = np.array([levels, 1, max(1, levels // 2)]).reshape(3, 1)
    assert (spikes(fewer, v) == np.minimum((v >= bars).sum(0), top)).all()


def test_table_is_clipped_at_both_ends() -> None:
    table = np.arange(256) * 3 - 100
    soma = Soma("n", 1, fire="table", reset="drop", table=table, table_offset=-5, table_shift=2)
    v = np.array([-V_MAX, 4, 5, 8, 9, 5 + 4 * 255, 5 + 4 * 256, V_MAX])
    expected = table[[0, 0, 0, 0, 1, 255, 255, 255]]
    assert (spikes(soma, v[:, None]).ravel() == expected).all()
