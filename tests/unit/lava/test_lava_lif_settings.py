"""The settings of Lava's LIF give exactly the soma; where they do not, there are none.

The stock model's step is written out here from its published equations, so that thousands of neurons can be
compared without starting Lava; the conformance tests run the real one.
"""

from __future__ import annotations

import numpy as np
import pytest
from snn2chip_backends.lava.lif import LifSettings, lif_settings

from snn2chip.ir.dynamics import soma_start, soma_step
from snn2chip.ir.soma import Soma


def lif_step(s: LifSettings, u, v, a):
    """One step of Lava's bit-accurate LIF: 6-bit shift, ds_offset 1, one wrap of u, saturating v, strict compare."""
    decayed = u * (4096 - (np.asarray(s.du) + 1))
    u = np.sign(decayed) * (np.abs(decayed) >> 12) + (a << 6)
    wrapped = np.where(u > 1 << 23, u - (1 << 24), u)
    u = np.where(wrapped <= -(1 << 23), u + (1 << 24), wrapped)
    decayed = v * (4096 - np.asarray(s.dv))
    v = np.sign(decayed) * (np.abs(decayed) >> 12) + u + (s.bias_mant << s.bias_exp)
    v = np.clip(v, -(1 << 23) + 1, (1 << 23) - 1)
    spike = v > (np.asarray(s.vth) << 6)
    return u, np.where(spike, 0, v), spike.astype(np.int64)


def outcome(soma: Soma, settings: LifSettings, currents) -> tuple[np.ndarray, np.ndarray]:
    """Payloads of the soma and spikes of LIF for currents `[T, *shape]`."""
    state = soma_start(soma, 1)
    u = v = np.zeros(soma.shape, np.int64)
    payloads, spikes = [], []
    for t, a in enumerate(currents):
        payloads.append(soma_step(soma, state, a[None], t)[0])
        u, v, s = lif_step(settings, u, v, a)
        spikes.append(s)
    return np.stack(payloads), np.stack(spikes)


def random_soma(rng: np.random.Generator, n: int) -> Soma:
    gain = int(rng.choice([1, 2, 4, 8, 16, 32, 64]))
    exact = rng.random() < 0.5
    leak = rng.choice([0, 4096], n) if exact else rng.integers(0, 4097, n)
    syn = None if rng.random() < 0.5 else rng.choice([0, 4096], n) if exact else rng.integers(0, 4097, n)
    theta = rng.integers(1, 40, n) if exact else 64 * rng.integers(0, 9, n) + 1
    bias = -gain * rng.integers(0, 3, n) if rng.random() < 0.5 else np.zeros(n, int)
    return Soma(
        "s",
        n,
        theta=theta,
        gain=gain,
        leak=leak,
        syn_leak=syn,
        bias=bias,
        reset=str(rng.choice(["zero", "drop", "value"])),
    )


def test_every_setting_found_is_exact_and_most_are_found():
    rng = np.random.default_rng(0)
    found = fired = total = 0
    for _ in range(300):
        soma = random_soma(rng, 16)
        settings = lif_settings(soma, 20, 8)
        if isinstance(settings, str):
            continue
        found += 1
        currents = rng.integers(-20, 21, (8, 16))
        expected, got = outcome(soma, settings, currents)
        assert (expected == got).all()
        fired += int(expected.sum())
        total += expected.size
    assert found >= 100
    assert fired > 0.1 * total


@pytest.mark.parametrize(("theta", "vth"), [(1, 0), (2, 1), (5, 4), (1 << 23, 1 << 17)])
def test_gain_one_compares_on_whole_units(theta, vth):
    """v >= theta on integers is v > theta - 1, and LIF's register holds 64 v."""
    settings = lif_settings(Soma("s", 3, theta=theta, reset="zero"), 9, 4)
    assert isinstance(settings, LifSettings)
    assert (settings.vth, settings.du, settings.dv) == (vth, 4095, 0)


def test_gain_64_keeps_the_potential_and_rounds_the_threshold_up_to_its_grid():
    """v is a multiple of 64: v >= 100 is v >= 128 is v > 64."""
    settings = lif_settings(Soma("s", 1, theta=100, gain=64, reset="zero"), 9, 4)
    assert isinstance(settings, LifSettings)
    assert settings.vth == 1


def test_per_neuron_values_stay_per_neuron():
    settings = lif_settings(Soma("s", 3, theta=[1, 2, 3], leak=[0, 4096, 4096], reset="zero"), 9, 4)
    assert isinstance(settings, LifSettings)
    assert settings.vth.tolist() == [0, 1, 2]
    assert settings.dv.tolist() == [4096, 0, 0]


def test_current_leak_becomes_du():
    settings = lif_settings(Soma("s", 1, theta=65, gain=64, syn_leak=1000, reset="zero"), 9, 4)
    assert isinstance(settings, LifSettings)
    assert settings.du == 3095


def test_bias_becomes_mantissa_and_exponent():
    """Gain 1: the register holds 64 v, so a bias of -3 is -192; -300 * 64 = -19200 needs the exponent 3."""
    settings = lif_settings(Soma("s", 2, theta=9, bias=[-3, -300], reset="zero"), 9, 4)
    assert isinstance(settings, LifSettings)
    assert (settings.bias_mant << settings.bias_exp).tolist() == [-192, -19200]
    assert abs(settings.bias_mant).max() <= 4095


@pytest.mark.parametrize(
    ("fields", "reach", "reason"),
    [
        ({"reset": "subtract"}, 9, "reset='subtract'"),
        ({"levels": 2}, 9, "one binary spike"),
        ({"fire": "excess", "reset": "zero"}, 9, "one binary spike"),
        ({"theta": [[3], [4], [5], [6]]}, 9, "parameters per step"),
        ({"v_init": 2}, 9, "v_init"),
        ({"v_min": -3}, 9, "floor"),
        ({"reset": "value", "v_reset": 1}, 9, "reset='value'"),
        ({"out_gain": 3}, 9, "scales its payload"),
        ({"gain": 3}, 9, "gain is not"),
        ({"gain": 2, "gain_shift": 2}, 9, "gain is not"),
        ({"leak": 4097}, 9, "leak is outside"),
        ({"leak": 4095}, 9, "needs gain 64"),
        ({"syn_leak": 100}, 9, "needs gain 64"),
        ({"theta": 66, "gain": 64, "leak": 4095}, 9, "6-bit grid"),
        ({"theta": 63, "gain": 64, "bias": -1}, 9, "6-bit grid"),
        ({"bias": -(1 << 14)}, 9, "13-bit mantissa"),
        ({"bias": -129, "gain": 64, "theta": 65}, 1 << 17, "overflow"),
        ({}, 1 << 17, "overflow"),
        ({}, 1 << 15, "overflow"),
        ({"syn_leak": 4096}, 1 << 15, "overflow"),
        ({"bias": 1}, 9, "fires without input"),
        ({"theta": 0}, 9, "6-bit grid"),
        ({"window": np.eye(4, dtype=int)}, 9, "no window"),
    ],
)
def test_what_lif_cannot_do_is_said(fields, reach, reason):
    soma = Soma("s", 2, **{"theta": 3, "reset": "zero", **fields})
    settings = lif_settings(soma, reach, 4)
    assert isinstance(settings, str)
    assert reason in settings


def test_the_bounds_are_tight_enough_to_matter():
    """T = 4 steps of a = 2^15 - 1 stay below 2^17 units of 64; one step more would not."""
    soma = Soma("s", 1, theta=1 << 16, reset="zero")
    assert isinstance(lif_settings(soma, (1 << 15) - 1, 4), LifSettings)
    assert isinstance(lif_settings(soma, (1 << 15) - 1, 5), str)
