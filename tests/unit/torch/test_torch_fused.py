"""The compiled pass of a soma: where 32 bits end, divisions at every tie, threads, layouts, counts."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import attrs
import numpy as np
import pytest
from snn2chip_backends.torch import TorchBackend, fused
from snn2chip_backends.torch.bounds import soma_bounds
from snn2chip_backends.torch.fused import FusedSoma

from snn2chip.api import run
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX
from snn2chip.threads import torch_threads

needs_numba = pytest.mark.skipif(fused.compiled_pass() is None, reason="numba is not installed")


def single(
    soma: Soma, lo: int, hi: int, weight: Any = 1, *, read: str = "payload", steps: int = 1, **o: Any
) -> Program:
    return Program(
        nodes=[Input("in", soma.shape, lo, hi), Synapse("s", "identity", weight, **o), soma, Output("o", read)],
        edges=[("in", "s"), ("s", soma.name), (soma.name, "o")],
        steps=steps,
    )


def equal(program: Program, x: Any) -> Any:
    expected, got = (run(program, x, backend=name) for name in ("reference", "torch"))
    for name, payload in expected.payloads.items():
        assert (got.payloads[name] == payload).all()
        assert (got.potentials[name] == expected.potentials[name]).all()
    assert (got.outputs == expected.outputs).all()
    assert got.counts == expected.counts
    return expected


@needs_numba
@pytest.mark.parametrize(("bias", "fits"), [(254, True), (255, True), (256, False)])
def test_totals_up_to_31_bits(bias: int, fits: bool) -> None:
    """Currents reach -128 * (2^23 - 1) * 2 = -2147483392; with the bias 2^31 - 1 is the last that fits."""
    soma = Soma("n", 3, fire="none", bias=[-bias, bias, 0])
    assert FusedSoma.fits(soma, soma_bounds(soma, 128 * V_MAX * 2, 1)) is fits
    program = single(soma, -V_MAX, V_MAX, [-128, 127, -128], exponent=1, read="potential")
    assert (TorchBackend().plan(program).somas["n"].fused is not None) is fits
    trace = equal(program, np.array([[V_MAX, V_MAX, -V_MAX], [-V_MAX, -V_MAX, 1], [0, 1, -1]]))
    assert trace.counts.totals["saturations"] > 0


@pytest.mark.parametrize(
    ("driven", "fits"), [(126 << 24, True), ((127 << 24) - 1, True), (127 << 24, False), ((1 << 31) - 1, False)]
)
def test_a_synaptic_current_needs_24_bits_of_its_own(driven: int, fits: bool) -> None:
    """u = wrap24(...) + x: what arrives and 2^24 together stay below 2^31."""
    soma = Soma("n", 2, theta=5, syn_leak=100)
    bounds = attrs.evolve(soma_bounds(soma, 9, 1), driven=driven)
    assert FusedSoma.fits(soma, bounds) is fits
    assert FusedSoma.fits(attrs.evolve(soma, syn_leak=None), bounds) is (driven < 1 << 31)


@needs_numba
@pytest.mark.parametrize("sign", [1, -1])
def test_levels_at_every_tie(sign: int) -> None:
    """s = clip(floor(v/theta), 0, L) at v = k*theta - 1, k*theta, k*theta + 1, for thresholds up to 2^23 - 1."""
    rng = np.random.default_rng(0)
    theta = np.unique(np.concatenate([np.arange(1, 60), (1 << rng.integers(6, 23, 200)) - rng.integers(0, 3, 200)]))
    levels = V_MAX // theta
    soma = Soma("n", len(theta), theta=theta, levels=levels, out_max=V_MAX)
    program = single(soma, -V_MAX, V_MAX)
    k = np.stack([np.ones_like(theta), levels // 2, levels, *(rng.integers(0, levels + 1) for _ in range(9))])
    v = sign * np.clip((k * theta)[:, None] + np.array([-1, 0, 1])[:, None], -V_MAX, V_MAX).reshape(-1, len(theta))
    got = run(program, v, backend="torch").payloads["n"][0]
    assert (got == np.clip(v // theta, 0, levels)).all()


@needs_numba
def test_rounded_gains_at_ties() -> None:
    """x = (a*gain + half) >> k for products of up to 38 bits, negative ones too."""
    gain, shift = np.array([32767, -32768, 3, 32767, -1]), np.array([15, 15, 1, 9, 2])
    soma = Soma("n", 5, fire="none", gain=gain, gain_shift=shift)
    program = single(soma, -V_MAX, V_MAX, read="potential")
    assert TorchBackend().plan(program).somas["n"].fused is not None
    a = np.concatenate([np.arange(-40, 40)[:, None].repeat(5, 1), np.array([[V_MAX] * 5, [-V_MAX] * 5])])
    x = (a * gain + ((1 << shift) >> 1)) >> shift
    assert (run(program, a, backend="torch").outputs == np.clip(x, -V_MAX, V_MAX)).all()


@needs_numba
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("shape", [(3, 5, 4), (4099,), (7, 11), (2500, 2, 1), (64, 9, 9)])
def test_layouts_and_threads(shape: tuple[int, ...], threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters per channel and per neuron, in every layout, by one thread and by several."""
    rng = np.random.default_rng(1)
    monkeypatch.setattr(fused, "ALONE", 0)
    soma = Soma(
        "n",
        shape,
        theta=rng.integers(5, 90, size=(3, *shape)),
        bias=rng.integers(-9, 9, size=shape[0]),
        leak=rng.integers(1000, 5000, size=(3, shape[0])),
        levels=rng.integers(1, 4, size=shape[0]),
        v_init=rng.integers(-9, 9, size=(1, *shape)),
        v_min=-30,
    )
    program = single(soma, -9, 60, rng.integers(1, 3, size=shape[0]), steps=3)
    with torch_threads(threads):
        assert equal(program, rng.integers(-9, 61, size=(7, *shape))).outputs.any()


@needs_numba
@pytest.mark.parametrize(("shift", "mixes"), [(0, False), (8, False), (0, True), (3, True)])
def test_windows_inside_and_outside_of_32_bits(shift: int, mixes: bool) -> None:
    """Mixed currents beyond 31 bits go through float64 first; two currents, one of them payloads times a factor."""
    rng = np.random.default_rng(2)
    window = rng.integers(-9, 10, size=(3, 3)) * (3000 if not mixes else 1)
    soma = Soma("n", (4, 3, 2), theta=rng.integers(50, 900, 4), levels=3, window=window, window_shift=shift, leak=4000)
    top = 1 << (17 if not mixes else 9)
    program = Program(
        nodes=[
            Input("in", (4, 3, 2), -top, top, coding="steps"),
            Synapse("s", "identity", [3, -1, 2, 1]),
            Synapse("c", "conv2d", rng.integers(-3, 4, size=(4, 4, 3, 3)), padding=1),
            soma,
            Output("o", "payload"),
        ],
        edges=[("in", "s"), ("in", "c"), ("s", "n"), ("c", "n"), ("n", "o")],
        steps=3,
    )
    fused_soma = TorchBackend().plan(program).somas["n"].fused
    if mixes or shift:
        assert fused_soma is not None
        assert fused_soma.mixes is mixes
    x = rng.integers(-top, top + 1, size=(3, 5, 4, 3, 2))
    expected, got = (run(program, x, backend=name) for name in ("reference", "torch"))
    assert (expected.payloads["n"] == got.payloads["n"]).all()
    assert (expected.potentials["n"] == got.potentials["n"]).all()
    assert expected.payloads["n"].any()


@needs_numba
def test_counts_of_wide_payloads_do_not_overflow() -> None:
    """600 samples of the widest payload: their sum needs 34 bits."""
    top = (1 << 24) - 1
    program = single(Soma("n", 2, fire="relay", reset="drop", out_gain=4, out_max=top), 0, 1 << 22)
    trace = run(program, np.full((600, 2), 1 << 22), backend="torch", record="outputs", block=600)
    assert trace.counts.sources["n"]["payload_sum"] == 2 * 600 * top
    assert trace.counts.sources["n"]["spikes"] == 1200


FORKED = """
import multiprocessing, numpy as np, torch
from snn2chip_backends.torch import fused
from snn2chip.api import run
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
torch.set_num_threads(2)
fused.ALONE = 0
program = Program(nodes=[Input("in", 3, 0, 9), Synapse("s", "identity"), Soma("n", 3, theta=4), Output("o", "count")],
                  edges=[("in", "s"), ("s", "n"), ("n", "o")], steps=3)
work = lambda: run(program, np.tile([3, 5, 0], (8, 1)), record="outputs").outputs.tolist()
first = work()
child = multiprocessing.get_context("fork").Process(target=lambda: exit(0 if work() == first else 7))
child.start()
child.join(60)
print(first[0], child.exitcode)
"""


@needs_numba
def test_a_forked_child_has_threads_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split("\n")[0] == "[2, 3, 0] 0"
