"""LM-HT windows of T steps over F event frames: one program of max(F, T) steps that sends what the equation says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from snn2chip_models import build
from torch import Tensor, nn

import snn2chip
from snn2chip.checks.usable import usable_backends
from snn2chip.compiler import compile_graph
from snn2chip.errors import UnsupportedError
from snn2chip.frontends.torch import trace
from snn2chip.nn import LMHT
from snn2chip.testing.whole import folded, spikes, whole


def dyadic(model: nn.Module, *, seed: int) -> nn.Module:
    """Whole weights, windows of multiples of 1/4 and leaks of 1/2, 3/4 .. in place of learned ones."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, LMHT):
            omega = torch.randint(1, 8, module.window_raw.shape, generator=generator) / 4.0  # in (0, 2)
            leak = 0.75
            module.window_raw.data = torch.logit(omega / 2).double()
            module.leak_raw.data = torch.logit(torch.tensor(leak - 0.5)).double()
            module.window = lambda omega=omega: omega  # type: ignore[method-assign, misc, assignment]
            module.leak_factor = lambda leak=leak: torch.tensor(leak)  # type: ignore[method-assign, misc, assignment]
    return whole(model, seed=seed)


class Net(nn.Module):
    """Frames `[F,B,6]` through two LM-HT layers; the first mixes F frames into T steps."""

    def __init__(self, *, frames: int, steps: int, how: str = "mean") -> None:
        super().__init__()
        self.T, self.how = steps, how
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 3)
        one = {"steps": steps, "levels": 3, "theta": 2.0, "window_scale": "sum"}
        self.first, self.second = LMHT(frames=frames, **one), LMHT(**one)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y = folded(self.c, self.second(folded(self.b, self.first(folded(self.a, x)))))
        return y[-1] if self.how == "last" else y.mean(0)


def by_hand(net: Net, x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Payload levels `[T, B, n]` of both layers, and the logits: the equation in float64, all numbers dyadic."""
    w = {name: p.detach().double().numpy() for name, p in net.named_parameters()}
    sent, y = [], x.astype(np.float64)
    for weight, neuron in (("a", net.first), ("b", net.second)):
        current = y @ w[f"{weight}.weight"].T + w[f"{weight}.bias"]
        omega = neuron.window().double().numpy()
        mixed = np.tensordot(omega, current, (1, 0))
        v, levels = np.zeros_like(mixed[0]), []
        for t in range(neuron.steps):
            m = float(neuron.leak_factor()) * v + mixed[t]
            levels.append(np.clip(np.floor(m / 2.0), 0, 3))
            v = m - 2.0 * levels[-1]
        sent.append(np.stack(levels))
        y = 2.0 * sent[-1]
    out = y @ w["c.weight"].T + w["c.bias"]
    return sent, out[-1] if net.how == "last" else out.mean(0)


@pytest.mark.parametrize("how", ["mean", "last"])
@pytest.mark.parametrize(("frames", "steps"), [(5, 2), (3, 2), (2, 4), (1, 2)])
def test_frames_into_other_steps(frames: int, steps: int, how: str) -> None:
    """Every payload of the first T steps is the equation's, nothing is sent behind them, the logits are the model's."""
    net = dyadic(Net(frames=frames, steps=steps, how=how), seed=4)
    assert isinstance(net, Net)
    x, S = spikes(frames, 10, 6, seed=7), max(frames, steps)
    sent, logits = by_hand(net, x.numpy())
    assert all((levels > 0).mean() > 0.05 for levels in sent)
    with torch.no_grad():
        np.testing.assert_array_equal(net(x).double().numpy(), logits)
    whole_x = torch.cat([x, x.new_zeros(S - frames, *x.shape[1:])])
    program, graph = compile_graph(net, x, weights="int8")
    assert (program.steps, graph.steps, graph.output.over) == (S, S, steps if steps < S else None)
    np.testing.assert_array_equal(graph.run(whole_x.double()).output.numpy(), logits)
    (source,) = (edge.src for edge in program.into[program.outputs[0].name])
    unit = np.asarray(program.meta["units"]["potential"][source])
    backends = usable_backends(program)[0] if how == "mean" else ["reference", "torch"]
    for backend in backends:
        ran = snn2chip.run(program, whole_x.numpy(), backend=backend)
        for name, levels in zip(("neuron1", "neuron2"), sent, strict=True):
            np.testing.assert_array_equal(ran.payloads[name][:steps], levels, err_msg=f"{backend} {name}")
            assert not ran.payloads[name][steps:].any()
        np.testing.assert_array_equal(ran.outputs * unit, logits * (steps if how == "mean" else 1), err_msg=backend)
    if frames < steps:  # frames that no step reads
        other = torch.cat([x, torch.ones(S - frames, *x.shape[1:])]).numpy()
        again = snn2chip.run(program, other, backend="reference")
        np.testing.assert_array_equal(again.outputs * unit, logits * (steps if how == "mean" else 1))


def test_fidelity_of_frames_into_steps() -> None:
    net, x = dyadic(Net(frames=5, steps=2), seed=4), spikes(5, 30, 6, seed=7)
    program, graph = compile_graph(net, x, weights="int8")
    for side in (net, graph):
        found = snn2chip.fidelity(program, side, x.numpy())
        assert (found.agreement, found.outputs[0].error) == (1.0, 0.0)
        assert all(row.free_equal in (None, 1.0) and row.free_potential == 0.0 for row in found.layers)


def test_learned_windows_agree_with_the_model() -> None:
    torch.manual_seed(3)
    net = Net(frames=5, steps=2).eval()
    for neuron in (net.first, net.second):
        nn.init.normal_(neuron.window_raw)
    nn.init.normal_(net.a.weight)
    x = spikes(5, 40, 6, seed=7)
    program, _ = compile_graph(net, x, weights="int8")
    assert snn2chip.fidelity(program, net, x.numpy()).agreement > 0.9
    assert snn2chip.check(program, x.numpy(), backends=["reference", "torch"]).equal


def test_a_net_of_the_zoo_over_five_frames() -> None:
    """Convolutions, norms and a mean over the steps: the program runs five steps and agrees with the model."""
    torch.manual_seed(0)
    net = build("small-vgg", stages=[[4], [6]], stem="nmnist", frames=5, T=2, L=2, neuron_args={"theta": 0.25}).eval()
    x = torch.randint(0, 4, (5, 12, 2, 34, 34)).float()
    program, graph = compile_graph(net, x)
    assert (program.steps, graph.output.over) == (5, 2)
    assert snn2chip.check(program, x[:, :2].numpy(), backends=["reference", "torch"]).equal
    with torch.no_grad():
        np.testing.assert_allclose(graph.run(x).output.numpy(), net(x).numpy(), atol=1e-4)
    assert snn2chip.fidelity(program, net, x.numpy()).agreement >= 10 / 12


def test_what_idle_steps_cannot_say_is_refused() -> None:
    class Two(Net):
        def __init__(self) -> None:
            super().__init__(frames=5, steps=2)
            self.second = LMHT(steps=3, levels=2)

    with pytest.raises(UnsupportedError, match=r"over \[5\] frames, neurons of \[2, 3\] steps; all share one F"):
        trace(Two().eval(), spikes(5, 4, 6))
    with pytest.raises(UnsupportedError, match="is no soma on its own"):
        LMHT(steps=2, frames=5).lower()
