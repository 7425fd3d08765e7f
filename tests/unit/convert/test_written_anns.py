"""The same network written in many ways: every activation is found and converted, everything else is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from snn2chip.convert import search_pool, to_ic_snn, to_parallel
from snn2chip.convert.activations import find
from snn2chip.convert.ic_snn import ICOptions
from snn2chip.convert.threshold_balance import Pool
from snn2chip.errors import InputError, Snn2ChipError
from snn2chip.frontends.torch import trace
from snn2chip.nn import QCFS, Repeat, Seq, TimeMean

Act = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """Two activations behind a norm and a sum, one in the tail; `act` is how each of them is written."""

    def __init__(self, act: Act | None = None) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.fc, self.head = nn.Linear(36, 8), nn.Linear(8, 3)
        self.act = act

    def one(self, x: Tensor) -> Tensor:
        assert self.act is not None
        return self.act(x)

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(self.norm(self.a(x)))
        h = self.one(self.b(h) + h)
        return self.head(self.one(self.fc(functional.avg_pool2d(h, 2).flatten(1))))


class Inplace(Net):
    """relu_ on the current, whose value is read afterwards under its old name."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.a(x))
        h.relu_()
        g = self.b(h) + h
        torch.relu_(g)
        t = self.fc(functional.avg_pool2d(g, 2).flatten(1))
        functional.relu_(t)
        return self.head(t)


class Loop(Net):
    """A block called in a loop with one shared module, and a residual of a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.shared(self.norm(self.a(x)))
        for _ in range(3):
            h = h + self.shared(self.b(h))
        return self.head(self.shared(self.fc(functional.avg_pool2d(h, 2).flatten(1))))


class Nested(Net):
    """Activations inside nested containers, a helper function and a method of a child."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Sequential(self.a, self.norm), nn.ModuleDict({"act": nn.ReLU(inplace=True)})["act"]
        )

    def forward(self, x: Tensor) -> Tensor:
        def double(v: Tensor) -> Tensor:
            return functional.relu(self.b(v)).relu()

        h = double(self.inner(x))
        return self.head(torch.relu(self.fc(functional.avg_pool2d(h, 2).flatten(1))))


WRITTEN: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "functional": (lambda: Net(functional.relu), 3),
    "functional-inplace": (lambda: Net(lambda x: functional.relu(x, inplace=True)), 3),
    "one-module": (lambda: Net(nn.ReLU()), 3),
    "one-module-inplace": (lambda: Net(nn.ReLU(inplace=True)), 3),
    "torch": (lambda: Net(torch.relu), 3),
    "method": (lambda: Net(lambda x: x.relu()), 3),
    "method-inplace": (Inplace, 3),
    "loop": (Loop, 5),
    "nested": (Nested, 4),
}


def made(build: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    net = build().double()
    x = torch.rand(16, 1, 6, 6).double()
    net.train()(x)
    return net.eval(), x


@pytest.mark.parametrize("name", WRITTEN)
def test_every_way_of_writing_is_converted(name: str) -> None:
    """As many neurons as activations were called, none of them left, and close to the ANN at many steps."""
    build, count = WRITTEN[name]
    net, x = made(build)
    assert [a.kind for a in find(trace(net, x[:4]))] == ["relu"] * count
    for form in ("graded", "steps"):
        graph = to_parallel(net, x[:4], steps=512, data=x, form=form)
        assert len(graph.of_kind("neuron")) == count
        assert not graph.of_kind("relu")
        with torch.no_grad():
            want = net(x)
        assert float((graph.run(x).output - want).abs().mean()) < 0.02 * float(want.abs().mean())


def test_ic_snn_converts_every_relu_of_a_chain() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    graph = to_ic_snn(net, torch.rand(4, 4).double(), steps=8, data=torch.rand(50, 4).double())
    assert [layer.kind for layer in graph.of_kind("relu", "neuron")] == ["neuron"] * 2


OTHERS: dict[str, Act] = {
    "gelu": functional.gelu,
    "sigmoid": torch.sigmoid,
    "leaky_relu": functional.leaky_relu,
    "tanh": torch.tanh,
    "silu": functional.silu,
    "elu": functional.elu,
    "softplus": functional.softplus,
    "hardtanh": functional.hardtanh,
    "relu6": functional.relu6,
    "prelu": nn.PReLU(),
    "abs": torch.abs,
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "mask": lambda x: x * (x > 0),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "threshold": lambda x: functional.threshold(x, 0.0, 0.0),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_activations_are_refused_by_name(name: str) -> None:
    torch.manual_seed(0)
    act = OTHERS[name]

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)
            self.own = act if isinstance(act, nn.Module) else None

        def forward(self, x: Tensor) -> Tensor:
            return self.b(act(self.a(torch.relu(x))))

    x = torch.rand(8, 4)
    for convert in (to_parallel, to_ic_snn):
        with pytest.raises(Snn2ChipError) as caught:
            convert(Mixed().eval(), x, steps=8, data=x)
        word = {"where": "gt", "mask": "gt"}.get(name, name)
        assert word in str(caught.value).lower().replace("leakyrelu", "leaky_relu"), str(caught.value)


def test_qcfs_modules_and_relu_calls_in_one_network() -> None:
    torch.manual_seed(0)
    tail = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    net = Seq(Repeat(1), nn.Linear(4, 8), QCFS(levels=8, vth=1.0), tail, TimeMean()).eval()
    x = torch.rand(32, 4)
    graph = to_parallel(net, x, steps=8, data=x)
    assert [layer.kind for layer in graph.of_kind("relu", "neuron")] == ["neuron"] * 2


def test_the_quantile_is_found_on_data() -> None:
    """One output in a hundred is ten times the rest: at few steps the maximum wastes them all, a quantile does not."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 4)).double()
    x = torch.rand(300, 6).double()
    x[::100] *= 40
    options = ICOptions()
    candidates = (Pool(quantile=1.0), Pool(quantile=0.99), Pool(quantile=0.9))
    best, scores = search_pool(net, x[:2], steps=4, data=x, options=options, candidates=candidates)
    assert set(scores) == set(candidates)
    assert scores[best] == max(scores.values()) > scores[candidates[0]]
    with torch.no_grad():
        truth = net(x).argmax(1)
    made_graph = to_ic_snn(net, x[:2], steps=4, data=x, options=ICOptions(pool=best))
    assert float((made_graph.run(x).output.argmax(1) == truth).double().mean()) == scores[best]
    labelled, _ = search_pool(net, x[:2], steps=4, data=x, labels=truth.numpy(), candidates=candidates)
    assert labelled == best
    net[0].bias.data.fill_(-1e3)
    with pytest.raises(InputError, match="all silent"):
        search_pool(net, x[:2], steps=4, data=x, candidates=candidates)
