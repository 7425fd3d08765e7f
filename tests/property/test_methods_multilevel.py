"""Multi-level neurons as one-level ones and as one graded step, in exact arithmetic (Hao et al. NeurIPS 2024).

Thresholds, weights and currents are integers, windows and leaks dyadic fractions, all in float64: `==` is meant.
"""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import Tensor, nn

from snn2chip.convert import collapse, serialise
from snn2chip.convert.reparameterise import substeps, unsafe, unsafe_counts
from snn2chip.errors import TraceError, UnsupportedError
from snn2chip.frontends.torch import trace
from snn2chip.ir.float_run import run_soma
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma, InputLayer, OutputLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.nn import IF, LMHT, MHT, Repeat, Seq, TimeMean


def ints(low: int, high: int, *shape: int, seed: int) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize(("theta", "levels"), [(2, 2), (5, 2), (3, 4), (7, 3)])
def test_lemma_4_1_holds_outside_the_unsafe_set(theta: int, levels: int) -> None:
    """All (u, I) of a grid; IF in units 1/L: start L*u, add I per sub-step, threshold L*theta."""
    span = 3 * levels * theta
    u, current = (
        g.flatten().double()
        for g in torch.meshgrid(torch.arange(-span, span), torch.arange(-span, span), indexing="ij")
    )
    multi = FloatSoma(steps=1, theta=theta, unit=1.0, levels=levels)
    one = FloatSoma(steps=levels, theta=levels * theta, unit=1.0)
    found = run_soma(attrs.evolve(multi, v_init=0.0), (u + current)[None, None])
    serial = run_soma(
        one, (current.expand(levels, -1) + levels * torch.cat([u[None], torch.zeros(levels - 1, len(u))]))[:, None]
    )
    count, spikes = found.payload.flatten(), serial.payload.sum(0).flatten()
    outside = ~unsafe(u, current, theta=theta, levels=levels)
    assert torch.equal(count[outside], spikes[outside])
    assert torch.equal((levels * found.after.flatten())[outside], serial.after[-1].flatten()[outside])
    assert 0.02 < float((count != spikes)[~outside].double().mean()) < 0.6


@pytest.mark.parametrize(("u", "current", "multi", "single"), [(-1, 5, 2, 1), (3, -1.2, 0, 1)])
def test_the_two_counterexamples(u: float, current: float, multi: int, single: int) -> None:
    """theta = 2, L = 2: (u, I) = (-1/2, 5/2)*theta and (3/2, -3/5)*theta."""
    theta = 2.0
    with torch.no_grad():
        one = MHT(steps=1, levels=2, theta=theta, v_init=u).double()(torch.tensor([[current]]).double())
        two = IF(steps=2, theta=theta, v_init=u).double()(torch.tensor([[current / 2]] * 2).double())
    assert float(one.sum()) == multi * theta
    assert float(two.sum()) == single * theta
    assert bool(unsafe(torch.tensor(u), torch.tensor(current), theta=theta, levels=2))


def lone_neuron(soma: FloatSoma, neurons: int) -> LayerGraph:
    """An input that is the current of `neurons` neurons, all of whose steps are returned as a sum."""
    return LayerGraph(
        layers=(
            InputLayer(name="input", shape=(neurons,)),
            NeuronLayer(name="n", soma=soma),
            OutputLayer(name="output", reduce="sum"),
        ),
        inputs={"n": ("input",), "output": ("n",)},
        steps=soma.steps,
    )


@pytest.mark.parametrize(("steps", "levels"), [(3, 2), (2, 4), (4, 8)])
@pytest.mark.parametrize("leak", [0.75, 1.0, 1.25])
@pytest.mark.parametrize("v_init", [-7.0, 0.0, 11.0])
def test_form_b_counts_like_the_multi_level_neuron_whatever_happens(
    steps: int, levels: int, leak: float, v_init: float
) -> None:
    theta = 5.0
    x = ints(-6 * levels, 9 * levels, steps, 200, 1, seed=levels)
    graph = lone_neuron(FloatSoma(steps=steps, theta=theta, unit=1.0, levels=levels, leak=leak, v_init=v_init), 1)
    made = serialise(graph, form="B")
    a, b = graph.run(x, collect=True), made.run(substeps(x, levels=levels), collect=True)
    windows = b.values["n"].view(steps, levels, 200, 1)
    assert torch.equal(a.values["n"], windows.sum(1))
    assert torch.equal(a.after["n"], b.after["n"][levels - 1 :: levels])
    assert float(windows.max()) == 1


def network(
    *, steps: int, levels: int, neuron: str, seed: int = 0, window: Tensor | None = None, v_init: float = 0.0
) -> LayerGraph:
    """Three neuron layers with integer weights on frames; dyadic windows, theta 8."""
    layers: list[nn.Module] = []
    sizes = [6, 30, 30, 30, 4]
    for i in range(4):
        linear = nn.Linear(sizes[i], sizes[i + 1])
        linear.weight.data = ints(-2, 3, sizes[i + 1], sizes[i], seed=seed + i) / (1 if i == 0 else 4)
        linear.bias.data = ints(-8, 8, sizes[i + 1], seed=seed + 10 + i)
        layers.append(linear)
        if i < 3:
            made = MHT if neuron == "mht" else LMHT
            layers.append(made(steps=steps, levels=levels, theta=8.0, v_init=v_init))
    graph = trace(Seq(*layers, TimeMean()).double(), ints(0, 6, steps, 3, 6, seed=seed))
    if window is None:
        return graph
    return graph.with_layers(
        *(attrs.evolve(n, soma=attrs.evolve(n.soma, window=window)) for n in graph.layers if isinstance(n, NeuronLayer))
    )


def mismatches(graph: LayerGraph, made: LayerGraph, x: Tensor, *, levels: int) -> float:
    a, b = graph.run(x, collect=True), made.run(substeps(x, levels=levels), collect=True)
    wrong = [
        (a.values[n.name] != b.values[n.name].unflatten(0, (graph.steps, levels)).sum(1)).double().mean()
        for n in graph.of_kind("neuron")
    ]
    return float(torch.stack(wrong).mean())


WINDOW = torch.tensor([[0.75, 0.25], [0.5, 0.625]], dtype=torch.float64)


@pytest.mark.parametrize("levels", [2, 4])
def test_form_a_is_lossless_without_unsafe_neurons(levels: int) -> None:
    """A positive window keeps neurons out of the unsafe set nearly always; each sample without one is exact."""
    graph = network(steps=2, levels=levels, neuron="lmht", window=WINDOW)
    made = serialise(graph, form="A")
    x, exact = ints(0, 6, 2, 60, 6, seed=5), 0
    for n in range(60):
        part = x[:, n : n + 1]
        if sum(unsafe_counts(graph, part).values()) == 0:
            exact += 1
            assert mismatches(graph, made, part, levels=levels) == 0
            assert torch.equal(made.run(substeps(part, levels=levels)).output * levels, graph.run(part).output)
    assert exact > 10
    assert mismatches(graph, serialise(graph, form="B"), x, levels=levels) == 0


def test_form_a_differs_on_uneven_currents_without_a_window_and_form_b_never() -> None:
    graph = network(steps=4, levels=2, neuron="mht", seed=3)
    x = ints(-6, 12, 4, 100, 6, seed=8)
    assert sum(unsafe_counts(graph, x).values()) > 0
    assert 0 < mismatches(graph, serialise(graph, form="A"), x, levels=2) < 0.3
    made = serialise(graph, form="B")
    assert mismatches(graph, made, x, levels=2) == 0
    assert torch.equal(made.run(substeps(x, levels=2)).output * 2, graph.run(x).output)


@pytest.mark.parametrize(("steps", "levels"), [(2, 2), (4, 3), (8, 1)])
def test_a_uniform_window_collapses_into_one_graded_step(steps: int, levels: int) -> None:
    """k = clip(floor((v0 + W k_prev + T b)/theta), 0, L*T): counts are the sums over the steps, logits the same."""
    graph = network(steps=steps, levels=levels, neuron="lmht", v_init=4.0)
    x = ints(0, 6, 80, 6, seed=2)
    made = collapse(graph)
    a, b = graph.run(x, collect=True), made.run(x, collect=True)
    for n in graph.of_kind("neuron"):
        assert torch.equal(a.values[n.name].mean(0), b.values[n.name][0])
        assert a.values[n.name].sum(0).unique().numel() > 2
    assert torch.equal(a.output, b.output)
    frames = ints(0, 6, steps, 80, 6, seed=4)  # uneven frames: the mean frame is the input
    assert torch.equal(graph.run(frames).output, made.run(frames.mean(0)).output)


def test_what_cannot_collapse_or_be_serialised_is_named() -> None:
    with pytest.raises(UnsupportedError, match="no window") as caught:
        collapse(network(steps=2, levels=2, neuron="mht"))
    assert len(caught.value.args[0].splitlines()) >= 3
    with pytest.raises(UnsupportedError, match="a window off by"):
        collapse(network(steps=2, levels=2, neuron="lmht", window=WINDOW))
    leaky = Seq(Repeat(2), LMHT(steps=2, levels=2), TimeMean())
    leaky[1].leak_raw.data.fill_(1.0)
    with pytest.raises(UnsupportedError, match=r"leak 1\.2"):
        collapse(leaky, torch.rand(4, 3) * 4)
    mixed = Seq(Repeat(2), MHT(steps=2, levels=2), nn.Linear(3, 3), MHT(steps=2, levels=3), TimeMean())
    with pytest.raises(UnsupportedError, match="3 levels"):
        serialise(mixed, torch.rand(4, 3) * 4)
    with pytest.raises(UnsupportedError, match="ReLU"):
        serialise(Seq(Repeat(2), MHT(steps=2, levels=2), nn.ReLU(), TimeMean()), torch.rand(4, 3) * 4)


def windows(x: Tensor, *, theta: int, levels: int, leak: float, v0: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Counts and end potentials of M-HT, and of an IF neuron whose leak acts at the first sub-step of a window.

    The IF neuron has potentials in units 1/L: it starts at L*v0, adds I at each sub-step, fires at L*theta.
    """
    v, u = v0.clone(), levels * v0
    found: list[list[Tensor]] = [[], [], [], []]
    for current in x:
        m = leak * v + current
        s = torch.floor(m / theta).clamp(0, levels)
        v = m - theta * s
        u, fired = leak * u, torch.zeros_like(u)
        for _ in range(levels):
            u = u + current
            spike = (u >= levels * theta).double()
            u, fired = u - levels * theta * spike, fired + spike
        for part, value in zip(found, (s, fired, levels * v, u), strict=True):
            part.append(value)
    a, b, c, d = (torch.stack(part) for part in found)
    return a, b, c, d


@pytest.mark.parametrize("leak", [0.0, 0.5, 0.875, 1.0, 1.25, 2.0])
@pytest.mark.parametrize("levels", [2, 3, 4])
def test_windows_are_equal_for_currents_in_range_with_any_leak_and_start(levels: int, leak: float) -> None:
    """Theorem 4.2 i extended: I(t) in [0, L*theta], v0 >= 0, leak >= 0; potentials too; the last window is free."""
    theta, steps = 7, 5
    x = ints(0, levels * theta, steps, 600, seed=levels)
    x[:, 0], x[:, 1] = 0, levels * theta
    for high in (theta - 1, 4 * theta):
        v0 = ints(0, high, 600, seed=high)
        mine, theirs, v, u = windows(x, theta=theta, levels=levels, leak=leak, v0=v0)
        assert torch.equal(mine, theirs)
        assert torch.equal(v, u)
    free = x.clone()
    free[-1] = ints(-levels * theta, 2 * levels * theta, 600, seed=9)
    mine, theirs, _, _ = windows(free, theta=theta, levels=levels, leak=1.0, v0=ints(0, theta - 1, 600, seed=1))
    assert torch.equal(mine, theirs)


def test_windows_differ_for_currents_out_of_range() -> None:
    """I(t) in [-L, 2L)*theta: about a quarter of the sequences count otherwise in some window."""
    theta, steps, levels = 7, 4, 2
    x = ints(-levels * theta, 2 * levels * theta - 1, steps, 4000, seed=5)
    mine, theirs, _, _ = windows(x, theta=theta, levels=levels, leak=1.0, v0=ints(0, theta - 1, 4000, seed=6))
    assert 0.1 < float((mine != theirs).any(0).double().mean()) < 0.4


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("levels", [1, 2, 4])
def test_a_uniform_window_without_division(steps: int, levels: int) -> None:
    """Every step adds S = sum I(j), thresholds are j*T*theta, v0 is T*v0: the count of clip(floor((v0+S)/theta))."""
    theta = 5
    total = [int(v) for v in ints(-3 * levels * theta * steps, 4 * levels * theta * steps, 300, seed=steps)]
    for v0 in range(theta):
        for s in total:
            v, count = steps * v0, 0
            for _ in range(steps):
                v += s
                fired = sum(v >= j * steps * theta for j in range(1, levels + 1))
                v, count = v - fired * steps * theta, count + fired
            assert count == min(max((v0 + s) // theta, 0), levels * steps)


def test_a_maximum_over_spikes_is_not_the_spikes_of_a_maximum() -> None:
    """Two neurons that spike at different sub-steps: sum of maxima 2, maximum of sums 1; so max-pools are refused."""
    spikes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(spikes.amax(1).sum()) == 2
    assert float(spikes.sum(0).amax()) == 1
    net = Seq(Repeat(2), nn.Conv2d(1, 2, 3), MHT(steps=2, levels=2), nn.MaxPool2d(2), nn.Flatten(), TimeMean())
    with pytest.raises((UnsupportedError, TraceError), match=r"(?i)max"):
        serialise(net, torch.rand(3, 1, 6, 6))
