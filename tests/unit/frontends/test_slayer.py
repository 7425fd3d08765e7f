"""Modules of lava-dl slayer blocks: the program answers with the module's own integers, or the module is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import snn2chip
from snn2chip.errors import InputError, Snn2ChipError, TraceError, UnsupportedError
from snn2chip.frontends.modules import framework_of
from snn2chip.frontends.slayer import slayer_program

slayer = pytest.importorskip("lava.lib.dl.slayer", reason="lava-dl is not installed")
cuba = slayer.block.cuba
GEN = np.random.default_rng(5)
X = torch.from_numpy((GEN.random((5, 6, 16)) < 0.6).astype(np.float32))
IMAGES = torch.from_numpy((GEN.random((3, 2, 6, 6, 12)) < 0.5).astype(np.float32))


def how(**more):
    return dict(threshold=1.25, current_decay=0.25, voltage_decay=0.03, requires_grad=False) | more


class Chain(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Reversed(Chain):
    def forward(self, x):
        for block in reversed(self.blocks):
            x = block(x)
        return x


class Headed(Chain):
    def __init__(self, *blocks):
        super().__init__(*blocks)
        self.head = nn.Linear(16, 16)

    def forward(self, x):
        return (self.head(super().forward(x)) > 0).float()


class Skipping(Chain):
    def forward(self, x):
        first = self.blocks[0](x)
        return self.blocks[1](first + x)


def dense(inputs, outputs, scale=2, **more):
    return cuba.Dense(how(**more), inputs, outputs, weight_scale=scale)


def normed(inputs, outputs):
    """A block whose mean is taken off as a bias; what it has learned is set, not trained."""
    block = dense(inputs, outputs, norm=slayer.neuron.norm.MeanOnlyBatchNorm)
    block.neuron.norm.num_features = outputs
    block.neuron.norm.running_mean = torch.linspace(-0.3, 0.1, outputs)
    return block


NETS = {
    "dense": (lambda: Chain(dense(6, 8), dense(8, 4)), X),
    "conv, flatten, dense": (
        lambda: Chain(cuba.Conv(how(), 2, 3, 3, padding=1, weight_scale=2), cuba.Flatten(), cuba.Dense(how(), 108, 4)),
        IMAGES,
    ),
    "recurrent": (lambda: Chain(cuba.Recurrent(how(), 6, 8, weight_scale=2)), X),
    "delayed": (lambda: Chain(cuba.Dense(how(), 6, 8, weight_scale=2, delay=True), dense(8, 4)), X),
    "sequential with a norm": (lambda: nn.Sequential(normed(6, 8), normed(8, 8), dense(8, 4, 3)), X),
    "voltages": (lambda: Chain(dense(6, 8), cuba.Affine(how(), 8, 4)), X),
    "input neurons": (
        lambda: Chain(cuba.Input(how(current_decay=1.0)), dense(6, 4, 3)),
        torch.linspace(0.1, 1, 30).reshape(5, 6, 1).expand(5, 6, 16).clone(),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_the_program_answers_as_the_module_does(name):
    """Every spike and potential of the last block, by the lag that the note names; no module ran before."""
    torch.manual_seed(1)
    make, x = NETS[name]
    net = make()
    assert framework_of(net) == "lava"
    program = snn2chip.compile(net, x)
    with torch.no_grad():
        want = net.eval()(x).double().numpy()
    lag = int(program.meta["notes"][-1].split()[-3])
    given = program.inputs[0]
    if given.coding == "repeat":
        values, every = torch.round(x[..., 0] * 32).numpy().astype(int) * 2, False
    else:
        values, every = x.numpy().astype(int), True
        values = np.moveaxis(values, -1, 0).reshape(x.shape[-1], len(x), *given.shape)
    trace = snn2chip.run(program, values, backend="reference", time_axis=every)
    last = program.somas[-1].name
    if program.outputs[0].read == "potential":
        got, want = trace.potentials[last], want * 4096
    else:
        got = trace.payloads[last]
    got, T = np.moveaxis(got, 0, -1), x.shape[-1]
    assert want.any()
    assert (got[..., : T - lag] == want[..., lag:].reshape(got[..., lag:].shape)).all()
    assert "equal to" in program.meta["notes"][-1]


def test_states_of_an_earlier_run_are_forgotten():
    torch.manual_seed(1)
    net = Chain(cuba.Recurrent(how(), 6, 8, weight_scale=2))
    fresh = snn2chip.compile(net, X).digest()
    with torch.no_grad():
        net(X)
    assert snn2chip.compile(net, X).digest() == fresh


@pytest.mark.parametrize("net", [Reversed(dense(6, 6), dense(6, 6, 3)), Skipping(dense(6, 6), dense(6, 6, 3))])
def test_another_forward_is_refused(net):
    with pytest.raises(TraceError, match=rf"{type(net).__name__}: its blocks in their order do not give.*X\.net"):
        snn2chip.compile(net, X)


def test_parameters_beside_the_blocks_are_refused():
    with pytest.raises(TraceError, match=r"Headed\.head \(Linear\): has parameters outside of the blocks"):
        snn2chip.compile(Headed(dense(6, 4)), X)


@pytest.mark.parametrize(
    ("net", "x", "error", "text"),
    [
        (lambda: Chain(dense(6, 4)), None, InputError, r"Chain: the sample is .* \[B, \.\.\., T\]; got NoneType"),
        (lambda: Chain(dense(6, 4)), X[..., 0], InputError, r"got \[5, 6\]"),
        (lambda: Chain(dense(6, 4)), X * 0, InputError, "Chain: answers the sample with no spike"),
        (lambda: Chain(dense(6, 4, 8)), X * 0.5, InputError, r"reads whole numbers 0\.\.1, the sample has"),
        (lambda: Chain(dense(7, 4)), X, TraceError, r"Chain cannot run the sample \[5, 6, 16\]"),
        (lambda: Chain(nn.Linear(6, 4), dense(4, 4)), X, TraceError, r"Chain\.blocks\.0 \(Linear\): expected slayer"),
        (lambda: Chain(dense(6, 4, shared_param=False)), X, TraceError, r"Chain\.blocks\.0: .*draw their own decays"),
        (
            lambda: Chain(cuba.Input(how(current_decay=1.0)), dense(6, 4, 3)),
            X,
            InputError,
            "changes from step to step",
        ),
    ],
)
def test_refusals_name_the_module(net, x, error, text):
    torch.manual_seed(1)
    with pytest.raises(error, match=text):
        snn2chip.compile(net(), x)


def test_the_importer_s_refusals_name_the_block():
    torch.manual_seed(1)
    adaptive = slayer.block.alif.Dense(
        dict(threshold=0.5, threshold_step=0.5, current_decay=0.2, voltage_decay=0.1, threshold_decay=0.1,
             refractory_decay=0.1), 6, 8, weight_scale=2,
    )  # fmt: skip
    with pytest.raises(UnsupportedError, match=r"^Chain\.blocks\.0 \(dense\): neurons of type 'ALIF'"):
        snn2chip.compile(Chain(adaptive), X)


def test_other_lengths_and_whole_payloads():
    torch.manual_seed(1)
    net = Chain(dense(6, 8), dense(8, 4))
    assert snn2chip.compile(net, X, steps=40).steps == 40
    assert slayer_program(net, X * 3, input_range=(0, 3)).inputs[0].payload_type().hi == 3


def test_options_that_no_block_takes_are_refused():
    torch.manual_seed(1)
    net = Chain(dense(6, 4))
    plain = snn2chip.compile(net, X, weights="keep", strict=False, steps=16, target="ideal", meta={"a": 1})
    assert (plain.target, plain.meta["a"]) == ("ideal", 1)
    given = {"weights": "binary", "strict": True, "calibration": X, "readout": "last", "overrides": {"x": "int4"}}
    for key, value in given.items():
        with pytest.raises(InputError, match=f"Chain: slayer blocks hold integers already; leave out {key}$"):
            snn2chip.compile(net, X, **{key: value})
    with pytest.raises(Snn2ChipError, match="input_range is two whole numbers"):
        snn2chip.compile(net, X, input_range=(0, 0.5))
