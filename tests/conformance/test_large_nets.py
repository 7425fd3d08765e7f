"""A ResNet-20 as LM-HT trains it (L = 2, T = 2): equal on every backend, and its fused and serialised forms.

Weights are random, set so that every layer fires like a trained one's: in a silent network nothing can differ.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from snn2chip_models import build

from benchmarks.lowering.nets import METHODS, NETS, NORMALISE, images, model_input
from benchmarks.lowering.random_weights import calibrate
from benchmarks.lowering.row import shuffled
from snn2chip.api import run
from snn2chip.checks.compare import check, compare_pair
from snn2chip.compiler import compile as compile_module
from snn2chip.errors import UnsupportedError
from snn2chip.ir.program import Program
from snn2chip.nn import LMHT
from snn2chip.registry import get_backend
from snn2chip.trace import Trace
from snn2chip.transforms import FuseTime, SerializeLevels

needs_lava = pytest.mark.skipif(get_backend("lava").missing() is not None, reason=str(get_backend("lava").missing()))
needs_data = pytest.mark.skipif(not os.environ.get("SNN2CHIP_DATA"), reason="needs CIFAR-10: set SNN2CHIP_DATA")


Made = tuple[Program, NDArray[np.uint8], Trace, bool]


def pictures(count: int) -> NDArray[np.uint8]:
    """Smooth random colour pictures `[count,3,32,32]`, all different."""
    coarse = torch.rand((count, 3, 5, 5), generator=torch.Generator().manual_seed(1))
    fine: Any = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
    return (255 * fine).round().numpy().astype(np.uint8)


def compiled(x: NDArray[np.uint8], *, learned: bool) -> Program:
    """ResNet-20 with windows and leaks as training leaves them, or as they start: 1/T and 1."""
    torch.manual_seed(0)
    model = build("resnet20", activation="lmht", L=2, T=2).eval()
    if learned:
        with torch.no_grad():
            for neuron in (m for m in model.modules() if isinstance(m, LMHT)):
                for raw in neuron.parameters():
                    raw.add_(0.3 * torch.randn_like(raw))
    calibrate(model, model_input(x))
    return compile_module(model, model_input(x[:2]), calibration=x, normalise=NORMALISE)


@pytest.fixture(scope="module", params=[True, False], ids=["learned-windows", "uniform-windows"])
def net(request: pytest.FixtureRequest) -> Made:
    x = pictures(24)
    program = compiled(x, learned=request.param)
    trace = run(program, x[:6], backend="torch")
    firing = [trace.payloads[s.name].astype(bool).mean() for s in program.somas if s.fire == "levels"]
    assert min(firing) > 0.02
    assert max(firing) < 0.4
    return program, x[:6], trace, request.param


def test_torch_equals_the_reference(net: Made) -> None:
    """All payloads of all somas at both steps, two pictures; the shuffled weights of one layer are found."""
    program, x, _, _ = net
    reference = run(program, x[:1], backend="reference")
    assert compare_pair(program, reference, run(program, x[:1], backend="torch"))[1] is None
    wrong = run(shuffled(program), x[:1], backend="torch")
    assert compare_pair(program, reference, wrong)[1] is not None


def integers(program: Program, samples: int) -> int:
    """All payloads of all somas at all steps, the last potentials of read-outs, and what is read of them."""
    payloads = program.steps * sum(math.prod(s.shape) for s in program.somas)
    potentials = sum(math.prod(s.shape) for s in program.somas if s.fire == "none")
    return samples * (payloads + potentials + sum(math.prod(program.shapes[o.name]) for o in program.outputs))


@pytest.mark.slow
@pytest.mark.lava
@needs_lava
@pytest.mark.parametrize("net", [True], indirect=True, ids=["learned-windows"])
def test_lava_equals_torch(net: Made) -> None:
    """One picture, every soma, every step."""
    program, x, _, _ = net
    result = check(program, x[:1], backends=("torch", "lava"))
    assert result.equal, result.first
    assert result.compared == integers(program, 1)


@pytest.fixture(scope="module")
def real() -> Program:
    """The net of the lowering table: trained on CIFAR-10 where a checkpoint is here."""
    subject = METHODS["lmht"](NETS["resnet20"])
    raw = images("train", 32, data=subject.data)[0]
    return compile_module(subject.model, subject.sample, calibration=raw, normalise=subject.normalise)


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.data
@needs_lava
@needs_data
def test_lava_equals_torch_on_real_images(real: Program) -> None:
    """Two test images of CIFAR-10, every soma, every step; L = 2, T = 2."""
    assert (real.steps, max(s.payload_type().hi for s in real.somas if s.fire == "levels")) == (2, 2)
    result = check(real, images("test", 2)[0], backends=("torch", "lava"))
    assert result.equal, result.first
    assert result.compared == integers(real, 2)
    firing = [result.traces["torch"].payloads[s.name].any() for s in real.somas]
    assert np.mean(firing) > 0.9


@pytest.mark.slow
@pytest.mark.data
@needs_data
def test_variants_give_the_same_class_potentials_on_real_images(real: Program) -> None:
    """Serialised levels of that net; with windows 1/T and leak 1, which fuse-time asks for, both (P2.8, P2.9)."""
    x = images("test", 4)[0]
    plain = compiled(images("train", 24)[0], learned=False)
    for program, changes in ((real, [SerializeLevels()]), (plain, [SerializeLevels(), FuseTime()])):
        want = run(program, x, backend="torch", record="outputs").outputs
        assert len(np.unique(want)) > 20
        for change in changes:
            other = change.run(program)
            assert other.steps == {"serialize-levels": 4, "fuse-time": 1}[change.name]
            assert (run(other, x, backend="torch", record="outputs").outputs == want).all(), change.name


@pytest.mark.slow
@pytest.mark.lava
@needs_lava
def test_lava_gives_the_variants_the_same_class_potentials(net: Made) -> None:
    """One picture: the read-outs on Lava of the serialised form, and of the fused one where windows are uniform."""
    program, x, trace, learned = net
    for change in [SerializeLevels()] if learned else [FuseTime()]:
        got = run(change.run(program), x[:1], backend="lava", record="outputs")
        assert (got.outputs == trace.outputs[:1]).all(), change.name


def test_fused_steps_give_the_same_potentials(net: Made) -> None:
    """P2.9: with windows 1/T and leak 1, one step of L*T levels; learned windows are refused by name."""
    program, x, trace, learned = net
    if learned:
        with pytest.raises(UnsupportedError, match="mixes the steps unevenly"):
            FuseTime().run(program)
        return
    fused = FuseTime().run(program)
    got = run(fused, x, backend="torch")
    assert fused.steps == 1
    assert (got.outputs == trace.outputs).all()
    for soma in program.somas:
        if soma.fire != "none":
            want = trace.payloads[soma.name].sum(0)
            assert (got.payloads[soma.name][0] == want).all(), soma.name


def test_serialised_levels_give_the_same_potentials(net: Made) -> None:
    """P2.8: two binary sub-steps for each step of two levels, whatever the windows and leaks are."""
    program, x, trace, _ = net
    serial = SerializeLevels().run(program)
    got = run(serial, x, backend="torch")
    assert serial.steps == 4
    assert all(s.payload_type().hi == 1 for s in serial.somas if s.fire == "levels")
    assert (got.outputs == trace.outputs).all()
