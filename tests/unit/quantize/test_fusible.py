"""Networks whose steps only add up: nothing is rounded at single steps, so that T steps fuse into one exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snn2chip_models import build
from torch import nn

from snn2chip.api import run
from snn2chip.compiler import compile as compile_module
from snn2chip.ir.program import Program
from snn2chip.ir.types import V_MAX
from snn2chip.nn import LMHT
from snn2chip.quantize.fusible import MOST, on_sum_grid, whole_gain
from snn2chip.quantize.weights import IntWeights
from snn2chip.transforms import FuseTime


def residual(seed: int, *, levels: int, steps: int) -> tuple[nn.Module, torch.Tensor]:
    """A residual net with a 1x1 shortcut, norms from its own data and random shifts."""
    torch.manual_seed(seed)
    shape = {"blocks": [1, 1], "channels": [4, 6], "strides": [1, 2], "stem_channels": 4, "input_shape": [3, 8, 8]}
    model = build("resnet20", activation="lmht", L=levels, T=steps, **shape)
    x = torch.rand(12, 3, 8, 8)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.bias, -0.3, 1.0)
    with torch.no_grad():
        model.train()(x)
    return model.eval(), x


def compiled(seed: int, *, levels: int, steps: int) -> tuple[Program, np.ndarray]:
    model, x = residual(seed, levels=levels, steps=steps)
    return compile_module(model, x), x.numpy()


@pytest.mark.parametrize(("levels", "steps"), [(1, 2), (2, 2), (3, 2), (2, 3), (1, 4)])
@pytest.mark.parametrize("seed", range(4))
def test_residual_nets_fuse_exactly(seed: int, levels: int, steps: int) -> None:
    """Counts of every soma over the sample and the class potentials, on the reference backend."""
    program, x = compiled(seed, levels=levels, steps=steps)
    assert any(soma.fire == "relay" for soma in program.somas)
    want = run(program, x, backend="reference")
    got = run(FuseTime().run(program), x, backend="reference")
    assert (want.outputs == got.outputs).all()
    for name, payload in got.payloads.items():
        assert (payload[0] == want.payloads[name].sum(0)).all(), name
    assert want.payloads[program.somas[0].name].any()


def test_relays_round_nothing_and_never_clip() -> None:
    program, x = compiled(0, levels=2, steps=2)
    trace = run(program, x, backend="reference")
    for soma in program.somas:
        if soma.fire == "relay":
            assert not any(v.any() for v in (soma.gain_shift, soma.out_shift, soma.bias))
            assert (soma.out_gain == 1).all()
            assert int(np.abs(trace.payloads[soma.name]).max()) < soma.payload_type().hi


def test_one_learned_window_is_lowered_as_before() -> None:
    """Sums alone do not decide any more: the relay takes the sum's unit and rounds."""
    model, x = residual(0, levels=2, steps=2)
    neuron = [m for m in model.modules() if isinstance(m, LMHT)][2]
    with torch.no_grad():
        next(iter(p for p in neuron.parameters() if p.dim() == 2))[0, 1] += 0.5
    program = compile_module(model, x)
    assert any(soma.out_shift.any() for soma in program.somas if soma.fire == "relay")


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.integers(0, 12), most=st.sampled_from([7, 127, MOST]))
def test_a_branch_s_unit_is_a_whole_number_of_the_sum_s(seed: int, spread: int, most: int) -> None:
    """delta' = m * 2^e * delta exactly; a step grows by at most one unit m, and no weight is off by more than half."""
    rng = np.random.default_rng(seed)
    own, delta = rng.uniform(0.5, 1, 5) * 2.0 ** rng.integers(0, spread + 1, 5), rng.uniform(0.01, 4, 5)
    target = rng.uniform(-127, 127, (5, 7)) * own[:, None]
    whole = np.rint(target / own[:, None]).astype(np.int64)
    weights = IntWeights(values=whole, delta=own, bits=8, exact=False, target=target)
    placed, m, exponent = on_sum_grid(weights, delta, most=most)
    assert m.min() >= 1
    assert m.max() <= most
    assert exponent >= 0
    assert (placed.delta == delta * m * 2.0**exponent).all()
    assert (placed.delta >= own * (1 - 1e-12)).all()
    assert (placed.delta <= own + delta * 2.0**exponent * (1 + 1e-12)).all()
    off = np.abs(placed.values * placed.delta[:, None] - target)
    assert (off <= placed.delta[:, None] / 2 * (1 + 1e-9)).all()


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**31), steps=st.integers(1, 16))
def test_a_whole_gain_never_saturates(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    delta = np.full(4, rng.uniform(1e-4, 1))
    static, bias = rng.integers(1, 2**22, 4).astype(float), rng.uniform(-100, 100, 4) * delta
    gain = whole_gain(delta, bias, static, delta, steps=steps)
    worst = steps * (static * gain + np.abs(np.rint(bias / delta * gain)) + 1)
    assert gain == 0 or worst.max() <= V_MAX + 1
