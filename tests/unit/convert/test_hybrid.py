"""Hybrid training's replacement: which modules change, what is scaled, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from snn2chip.convert import collapse, serialise, to_hybrid
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.frontends.torch import trace
from snn2chip.nn import LMHT, QCFS, Repeat, Seq, TimeMean
from snn2chip.passes import run_passes
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.quantize.spec import QuantSpec

FIRST = {"0", "1"}  # the convolution and the norm that read the input


def source() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(4)
    convs = [nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)]
    norms = [nn.BatchNorm2d(6), nn.BatchNorm2d(6)]
    for norm in norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.bias.data.normal_()
    stages = [convs[0], norms[0], Repeat(1), QCFS(levels=4, vth=1.0), convs[1], norms[1], QCFS(levels=4, vth=1.5)]
    net = Seq(*stages, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(24, 5), TimeMean())
    return net.double().eval(), torch.rand(20, 1, 8, 8).double()


def test_both_exact_forms_agree_through_norms_and_first_only_does_not() -> None:
    net, x = source()
    with torch.no_grad():
        want = net(x)
        got = {
            form: to_hybrid(net, x[:4], steps=2, levels=2, form=form)(x)
            for form in ("normalised", "printed", "first-only")
        }
    torch.testing.assert_close(got["normalised"], want, rtol=0, atol=1e-12)
    torch.testing.assert_close(got["printed"], 2 * want, rtol=0, atol=1e-12)
    assert float((got["first-only"] - 2 * want).abs().max()) > 0.05


def test_what_the_printed_form_multiplies() -> None:
    """Every bias, norm shift and running mean, and the weights that read the input; no gamma, no variance."""
    net, x = source()
    made = to_hybrid(net, x[:4], steps=1, levels=4, form="printed")
    before, after = dict(net.state_dict()), dict(made.state_dict())
    for key, value in before.items():
        path, field = key.rsplit(".", 1)
        if "vth" in key:
            continue
        times = field in ("bias", "running_mean") or (field == "weight" and path == "0")
        assert torch.equal(after[key], value * (4 if times else 1)), key
    plain = to_hybrid(net, x[:4], steps=1, levels=4)
    assert all(torch.equal(plain.state_dict()[k], v) for k, v in before.items() if "vth" not in k)


def test_neurons_repeat_and_mode_are_replaced_on_a_copy() -> None:
    net, x = source()
    made = to_hybrid(net, x[:4], steps=3, levels=2, learn_leak=False)
    neurons = [m for m in made.modules() if isinstance(m, LMHT)]
    assert [float(n.theta) for n in neurons] == [0.5, 0.75]
    assert all(n.steps == 3 and n.levels == 2 and not n.leak_raw.requires_grad for n in neurons)
    assert all(torch.equal(n.window(), torch.full((3, 3), 1 / 3, dtype=torch.float64)) for n in neurons)
    assert [m.steps for m in made.modules() if isinstance(m, Repeat)] == [3]
    assert [m.steps for m in net.modules() if isinstance(m, Repeat)] == [1]
    assert sum(isinstance(m, QCFS) for m in net.modules()) == 2


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.neuron = QCFS(levels=4, vth=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.neuron(self.a(x)[None]))[0]


def test_other_activations_are_named() -> None:
    x = torch.rand(4, 3)
    with pytest.raises(UnsupportedError, match=r"relu1.*relu activation, this conversion takes qcfs"):
        to_hybrid(Functional(), x, steps=2, levels=2)
    with pytest.raises(UnsupportedError, match="build it with T = 1"):
        to_hybrid(Seq(Repeat(2), QCFS(steps=2, levels=4, vth=1.0), TimeMean()), x, steps=2, levels=2)
    with pytest.raises(InputError, match=r"(?s)steps=0.*levels=0"):
        to_hybrid(Functional(), x, steps=0, levels=0)
    with pytest.raises(InputError, match="form='loose' is none of"):
        to_hybrid(Functional(), x, steps=2, levels=2, form="loose")


def test_the_replaced_and_the_rewritten_networks_become_integers() -> None:
    net, x = source()
    graph = trace(to_hybrid(net, x[:4], steps=2, levels=2), x[:4])
    steps = {"collapse": 1, "A": 4, "B": 4}
    for how, made in {"collapse": collapse(graph), "A": serialise(graph, form="A"), "B": serialise(graph)}.items():
        folded = run_passes(made)
        program = lower(folded, calibrate(folded, x), spec=QuantSpec(input_bits=4))  # room for the window
        assert program.steps == steps[how]
        torch.testing.assert_close(folded.run(x).output * (1 if how == "collapse" else 2), net(x), rtol=0, atol=1e-9)
