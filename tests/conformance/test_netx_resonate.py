"""Outside truth for resonate-and-fire neurons: the recordings of lava-dl's complex blocks, 2000 steps, bit for bit.

First a witness in whole numbers, written from the equations alone; then the same as a program of somas.
"""

from __future__ import annotations

import attrs
import numpy as np
import pytest

import snn2chip
from snn2chip.checks.usable import usable_backends
from snn2chip.errors import ParameterError
from snn2chip.frontends.netx_resonate import Resonance, resonate
from snn2chip.ir.nodes import Input, Output
from snn2chip.ir.program import Program
from snn2chip.registry import get_backend

TOP = (1 << 23) - 1
BACKENDS = ("reference", "torch")
CASES = {
    "input": (Resonance.of(period=7, alpha=0.05, vth=1.1, izhikevich=True), "current", 13548),
    "dense": (Resonance.of(period=11, alpha=0.05, vth=25), "out", 41512),
}


def witness(neuron, a_re, a_im):
    """Spikes and states (before the reset) `[T, ..]` of currents `[T, ..]`, from the equations."""

    def toward_zero(z):
        return np.sign(z) * (abs(z) >> neuron.bits)

    re = im = np.zeros_like(a_re[0])
    found = []
    for x, y in zip(a_re << neuron.state_exp, a_im << neuron.state_exp, strict=True):
        new_re = np.clip(toward_zero(neuron.cos * re) - toward_zero(neuron.sin * im) + x, -TOP, TOP)
        new_im = np.clip(toward_zero(neuron.sin * re) + toward_zero(neuron.cos * im) + y, -TOP, TOP)
        if neuron.izhikevich:
            s = new_im >= neuron.theta
            re, im = np.where(s, 0, new_re), np.where(s, neuron.theta - 1, new_im)
        else:
            s = (new_re >= neuron.theta) & (new_im >= 0) & (im < 0)
            re, im = new_re, new_im
        found.append((s, re, im))
    spikes, res, ims = (np.stack(part) for part in zip(*found, strict=True))
    return spikes.astype(int), res, ims


def program_of(neuron, inputs, shape, steps, lo=0, hi=1, **weights):
    nodes, edges = resonate("rf", "input", shape, neuron, **weights)
    return Program(
        nodes=[Input("input", inputs, lo, hi, coding="steps"), *nodes, Output("out", "count")],
        edges=[*edges, ("rf", "out")],
        steps=steps,
    )


@pytest.fixture(scope="module", params=CASES)
def case(request, shipped):
    """Neuron, weights, input and recorded spikes `[T, N]` of one block."""
    folder = shipped / "gts" / "complex_dense"
    neuron, file, count = CASES[request.param]
    x, truth = (np.load(folder / f"{name}.npy").T.astype(int) for name in ("in", file))
    assert (x.sum(), truth.sum()) == (18284, count)
    if request.param == "dense":  # Lava's synapse passes on what arrived one step before
        x = np.concatenate([np.zeros_like(x[:1]), x[:-1]])
    parts = {"real": "weight_r", "imag": "weight_img"} if request.param == "dense" else {}
    weights = {f"weight_{part}": np.load(folder / f"{name}.npy").astype(int) for part, name in parts.items()}
    return neuron, weights, x, truth


def currents(weights, x):
    return (x @ weights["weight_real"].T, x @ weights["weight_imag"].T) if weights else (x, x)


def real_part(neuron):
    return "rf.kept" if neuron.izhikevich else "rf.re"


def test_resonate_witness(case):
    """The equations are the recordings: every spike of 2000 steps and no other."""
    neuron, weights, x, truth = case
    assert (witness(neuron, *currents(weights, x))[0] == truth).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_resonate_blocks(case, backend):
    """So is the program (500 steps of it on the slow definition); its states are those of the equations."""
    neuron, weights, x, truth = case
    steps = 2000 if backend == "torch" else 500
    x, truth = x[:steps], truth[:steps]
    program = program_of(neuron, x.shape[1:], truth.shape[1:], steps, **weights)
    trace = snn2chip.run(program, x[:, None], backend=backend, time_axis=True)
    assert (trace.payloads["rf"][:, 0] == truth).all()
    assert (trace.outputs[0] == truth.sum(0)).all()
    _, re, im = witness(neuron, *currents(weights, x))
    assert (trace.payloads[real_part(neuron)][:, 0] == re).all()
    assert (trace.payloads["rf.im"][:, 0] == im).all()
    assert trace.counts.totals["saturations"] == 0


def test_another_neuron_is_another_recording(case):
    """The comparison can fail: one unit more in the sine (of 4096) or in the threshold (of 64) leaves the recording."""
    neuron, weights, x, truth = case
    off = attrs.evolve(neuron, **({"theta": 71} if neuron.izhikevich else {"sin": neuron.sin + 1}))
    wrong = witness(off, *currents(weights, x))[0] != truth
    assert 0 < wrong.sum() < 1000


NEURONS = [
    (4096, 0, 3, 12),
    (0, -4096, 1, 12),
    (-1, 2, 5, 12),
    (-2049, 3001, 700, 12),
    (3072, -2816, 9000, 12),
    (1, -1, 4, 1),
    (-32767, 20002, 123456, 15),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("izhikevich", [False, True])
@pytest.mark.parametrize(("cos", "sin", "theta", "bits"), NEURONS)
def test_every_turn_and_every_state(cos, sin, theta, bits, izhikevich, backend):
    """Factors of every sign and parity; inputs that fill 24 bits and clip, small ones that round, none at all."""
    neuron = Resonance(cos=cos, sin=sin, theta=theta + izhikevich, bits=bits, state_exp=0, izhikevich=izhikevich)
    rng = np.random.default_rng(abs(cos) + bits)
    x = rng.integers(-(1 << 22), 1 << 22, (40, 6, 5)) >> rng.choice([0, 8, 19, 23], (40, 1, 5))
    weights = {key: rng.integers(-3, 4, (7, 5)) for key in ("weight_real", "weight_imag")}
    program = program_of(neuron, (5,), (7,), 40, -(1 << 22), 1 << 22, **weights)
    trace = snn2chip.run(program, x, backend=backend, time_axis=True)
    spikes, re, im = witness(neuron, *currents(weights, x))
    assert (trace.payloads["rf"] == spikes).all()
    assert (trace.payloads[real_part(neuron)] == re).all()
    assert (trace.payloads["rf.im"] == im).all()
    assert max(abs(re).max(), abs(im).max()) == TOP or izhikevich
    assert spikes.any()


@pytest.mark.lava
@pytest.mark.parametrize("name", CASES)
def test_resonate_on_our_lava_backend(name):
    """The same loop as one Lava process: every payload of every soma."""
    neuron, rng = CASES[name][0], np.random.default_rng(0)
    weights = {key: rng.integers(-20, 25, (6, 6)) for key in ("weight_real", "weight_imag")} if name == "dense" else {}
    program = program_of(neuron, (6,), (6,), 60, **weights)
    if "lava" not in usable_backends(program)[0]:
        pytest.skip("Lava does not run here")
    x = (rng.random((60, 2, 6)) < 0.2).astype(int)
    truth = witness(neuron, *currents(weights, x))
    trace = get_backend("lava", layout="fused").run(program, {"input": x})
    found = [trace.payloads[key] for key in ("rf", real_part(neuron), "rf.im")]
    assert all((ours == theirs).all() for ours, theirs in zip(found, truth, strict=True))
    assert truth[0].any()


def test_integers_of_a_turn():
    """(1 - alpha) exp(2 pi i / period) at angles where cosine and sine are known, cut toward zero."""
    quarter = Resonance.of(period=4, alpha=0.5, vth=1.1)
    assert (quarter.cos, quarter.sin, quarter.theta) == (0, 2048, 70)
    third = Resonance.of(period=3, alpha=0, vth=2, state_exp=0, decay_bits=10)
    assert (third.cos, third.sin, third.theta) == (-511, 886, 2)  # -512 less a rounding error; 1024 * sqrt(3) / 2


def test_what_has_no_integers():
    with pytest.raises(
        ParameterError, match=r"cos and sin must be within \+-4096(.|\n)*state_exp(.|\n)*theta must be 1"
    ):
        Resonance(cos=4097, sin=0, theta=0, state_exp=17, izhikevich=True)
    with pytest.raises(ParameterError, match=r"bits must be 1\.\.15, got 16"):
        Resonance(cos=1, sin=1, theta=1, bits=16)
    with pytest.raises(ParameterError, match="nothing turns"):
        Resonance(cos=0, sin=0, theta=1)
    with pytest.raises(ParameterError, match="period"):
        Resonance.of(period=0, alpha=0, vth=1)
