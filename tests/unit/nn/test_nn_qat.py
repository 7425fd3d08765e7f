"""Quantization-aware training: forward is the integer soma, step for step; the gradient is the neuron's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, QuantizeError, UnsupportedError
from snn2chip.ir.dynamics import mix_window, soma_start, soma_step
from snn2chip.ir.layers import FloatSoma
from snn2chip.ir.soma import Soma
from snn2chip.nn import (
    IF,
    LIF,
    LMHT,
    MHT,
    NEURONS,
    BinaryLinear,
    IntConv2d,
    IntegerGrid,
    IntLinear,
    Neuron,
    Repeat,
    Seq,
    TimeMean,
    make_neuron,
    quantize_neurons,
    quantize_weights,
)

STEPS = 3
NO_GRID = ("empf", "empf-norm", "empf-parallel")  # fire their excess: no integer training, refused by name
CASES = [(name, variant) for name, kind in NEURONS.items() if name not in NO_GRID for variant in kind.variants]
GRIDS = [(8, 8), (3, 4), (10, 2)]


def randomised(name: str, variant: dict[str, Any]) -> Neuron:
    torch.manual_seed(5)
    neuron = make_neuron(name, steps=STEPS, **variant).double()
    with torch.no_grad():
        for key, parameter in neuron.named_parameters():
            if key != "vth":
                parameter.add_(torch.randn_like(parameter))
    return neuron


def integer_run(soma: FloatSoma, x: list[float], theta_bits: int, window_bits: int) -> list[int]:
    """The contract's soma on Python integers for one neuron; returns the payloads."""
    f = 0 if soma.window is None else window_bits
    theta = 2 ** (theta_bits + f)
    unit = float(soma.theta) / 2**theta_bits
    a = [math.floor(value / unit + 0.5) for value in x]
    if soma.window is not None:
        w = [[math.floor(float(entry) * 2**f + 0.5) for entry in row] for row in soma.window]
        a = [sum(w[t][j] * a[j] for j in range(len(x))) for t in range(len(x))]
    n = math.floor(float(soma.leak) * 4096 + 0.5)
    half = soma.v_init_rule == "half-theta"
    v = theta // 2 if half else math.floor(float(soma.v_init) / float(soma.theta) * theta + 0.5)
    bias = math.floor(float(soma.bias) / float(soma.theta) * theta + 0.5)
    payloads = []
    for t in range(len(x)):
        sign = -1 if v * n < 0 else 1
        m = sign * ((abs(v) * abs(n)) >> 12) + a[t] + bias
        m = max(-(2**23 - 1), min(2**23 - 1, m))
        k = max(0, min(soma.levels, m // theta))
        if soma.reset == "subtract":
            v = m - k * theta
        else:
            v = 0 if soma.reset == "drop" or k > 0 else m
        payloads.append(k)
    return payloads


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_forward_is_the_integer_step(name: str, variant: dict[str, Any], grid: tuple[int, int]) -> None:
    theta_bits, window_bits = grid
    neuron = randomised(name, variant)
    x = 1.5 * torch.randn(STEPS, 60, dtype=torch.float64)
    expected = [integer_run(neuron.lower(), x[:, b].tolist(), theta_bits, window_bits) for b in range(60)]
    quantize_neurons(neuron, theta_bits=theta_bits, window_bits=window_bits)
    got = neuron(x).detach()
    counts = torch.tensor(expected, dtype=torch.float64).T
    assert torch.equal(got, neuron.threshold().detach() * counts)
    assert 0 < counts.sum() < counts.numel() * neuron.levels


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_forward_is_the_programs_own_soma(name: str, variant: dict[str, Any]) -> None:
    neuron = quantize_neurons(randomised(name, variant), theta_bits=6, window_bits=5)
    x = 1.5 * torch.randn(STEPS, 4, 7, dtype=torch.float64)
    got = neuron(x).detach() / neuron.threshold().detach()
    assert neuron.qat is not None
    fields = neuron.qat.fields(neuron)
    soma = Soma(
        "soma",
        (7,),
        theta=fields.theta,
        levels=fields.levels,
        leak=fields.leak,
        bias=fields.bias,
        v_init=fields.v_init,
        reset=fields.reset,
        window=None if fields.window is None else fields.window.numpy(),
        out_max=fields.levels,
    )
    unit = fields.lsb * (1 if fields.window is None else 2**5)
    a = torch.floor(x / unit + 0.5).to(torch.int64).numpy()
    mixed = a if fields.window is None else mix_window(soma, a)
    state = soma_start(soma, 4)
    for t in range(STEPS):
        assert (soma_step(soma, state, mixed[t], t) == got[t].numpy()).all()


def on_grid(x: Tensor, theta: float, bits: int) -> Tensor:
    return torch.floor(x / theta * 2**bits + 0.5) * theta / 2**bits


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_on_the_grid_nothing_changes_neither_value_nor_gradient(name: str, variant: dict[str, Any]) -> None:
    """Dyadic constants and currents: the float neuron is already on the grid (leaks of 1/16 keep 12 bits exact)."""
    neurons = [make_neuron(name, steps=2, **variant).double() for _ in range(2)]
    quantize_neurons(neurons[1], theta_bits=8, window_bits=4)
    theta = float(neurons[0].threshold())
    torch.manual_seed(1)
    x = on_grid(1.5 * torch.randn(2, 200, dtype=torch.float64), theta, 4)
    weight = torch.randn(2, 200, dtype=torch.float64)
    outs, grads = [], []
    for neuron in neurons:
        leaf = x.clone().requires_grad_()
        out = neuron(leaf)
        wanted = [leaf, *(p for p in neuron.parameters() if p.requires_grad)]
        grads.append(torch.autograd.grad((out * weight).sum(), wanted))
        outs.append(out)
    assert torch.allclose(outs[0], outs[1], rtol=1e-12, atol=0)
    for plain, trained in zip(*grads, strict=True):
        assert torch.allclose(plain, trained, rtol=1e-9, atol=1e-12)
        assert plain.abs().max() > 0


def test_gradient_reads_the_band_at_the_integer_potential() -> None:
    """theta 1 on a grid of 1/2: 0.3 rounds up to m = 0.5, inside the band; the float neuron sees 0.3, outside."""
    grads = []
    for bits in (None, 1):
        neuron = IF(steps=1).double()
        if bits:
            quantize_neurons(neuron, theta_bits=bits)
        x = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
        neuron(x).sum().backward()
        assert x.grad is not None
        grads.append(x.grad.item())
    assert grads == [0.0, 1.0]


def test_leak_truncates_toward_zero_and_keeps_its_state() -> None:
    # theta 4, one unit = 1: leak 0.5; v: -3 -> trunc(-1.5) = -1 -> + 5 = 4 fires; floor would give -2 + 5 = 3
    neuron = quantize_neurons(LIF(steps=2, leak=0.5, theta=4.0).double(), theta_bits=2)
    assert neuron(torch.tensor([[-3.0], [5.0]], dtype=torch.float64)).tolist() == [[0.0], [4.0]]


def test_potentials_saturate_at_24_bits() -> None:
    """Two huge negative steps end at -(2^23 - 1), which one huge positive step brings back to 0; then 1.0 fires."""
    neuron = quantize_neurons(IF(steps=4, theta=1.0).double(), theta_bits=1)
    x = torch.tensor([[-1e9], [-1e9], [1e9], [1.0]], dtype=torch.float64)
    assert neuron(x).tolist() == [[0.0], [0.0], [0.0], [1.0]]


def test_single_steps_run_on_integers_too() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 2, 9)
    at_once = quantize_neurons(LIF(steps=4, leak=0.7), theta_bits=5)(x)
    looped = quantize_neurons(LIF(steps=4, leak=0.7, step_mode="s"), theta_bits=5)
    assert torch.equal(at_once, torch.stack([looped(x[t]) for t in range(4)]))


def test_lowered_leak_and_window_lie_on_the_grid() -> None:
    neuron = randomised("lmht", {"levels": 4})
    assert isinstance(neuron, LMHT)
    before = neuron.float_soma()
    quantize_neurons(neuron, window_bits=6)
    after = neuron.float_soma()
    assert float(after.leak) == round(float(before.leak) * 4096) / 4096
    assert before.window is not None
    assert after.window is not None
    assert torch.equal(after.window * 64, torch.round(before.window * 64))
    assert not torch.equal(after.window, before.window)


def test_neurons_without_an_integer_form_are_refused() -> None:
    with pytest.raises(InputError, match="no neurons"):
        quantize_neurons(nn.Linear(1, 1))
    with pytest.raises(QuantizeError, match="lower theta_bits or window_bits"):
        quantize_neurons(MHT(steps=1, levels=200), theta_bits=16)
    with pytest.raises(ValueError, match="window_bits"):
        IntegerGrid(window_bits=15)

    class PerStep(IF):
        def lower(self) -> FloatSoma:
            return FloatSoma(steps=2, theta=1.0, unit=1.0, fire="excess", reset="clamp", leak=torch.ones(2, 1))

    with pytest.raises(UnsupportedError) as caught:
        quantize_neurons(PerStep(steps=2))
    assert len(caught.value.breaches) == 2


def net() -> Seq:
    torch.manual_seed(0)
    return Seq(
        nn.Conv2d(1, 3, 3, padding=1, bias=False),
        nn.BatchNorm2d(3),
        Repeat(2),
        LMHT(steps=2),
        nn.Conv2d(3, 3, 3, stride=2, padding=1),
        LMHT(steps=2),
        nn.Flatten(),
        BinaryLinear(27, 8),
        LMHT(steps=2),
        nn.Linear(8, 4),
        TimeMean(),
    )


def test_weights_are_swapped_in_place_under_their_names() -> None:
    model = net()
    names = list(model.state_dict())
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    assert quantize_weights(model, bits=3) is model
    assert [type(m).__name__ for m in model if hasattr(m, "weight_bits")] == [
        "IntConv2d",
        "IntConv2d",
        "BinaryLinear",
        "IntLinear",
    ]
    assert [m.weight_bits for m in model if isinstance(m, IntConv2d | IntLinear)] == [8, 3, 8]
    assert list(model.state_dict()) == names
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    middle = model[4]
    assert isinstance(middle, IntConv2d)
    assert (middle.stride, middle.padding, middle.bias is not None) == ((2, 2), (1, 1), True)
    quantize_neurons(model)
    x = torch.rand(5, 1, 6, 6)
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_edges_may_stay_float_and_shared_layers_stay_shared() -> None:
    shared = nn.Linear(4, 4)
    model = Seq(nn.Linear(4, 4), shared, IF(steps=1), Seq(shared), nn.Linear(4, 4))
    quantize_weights(model, bits=2, edge_bits=None)
    assert type(model[0]) is nn.Linear
    assert type(model[4]) is nn.Linear
    inner = model[3]
    assert isinstance(inner, Seq)
    assert isinstance(model[1], IntLinear)
    assert model[1] is inner[0]


def test_bad_widths_and_empty_models_are_refused() -> None:
    with pytest.raises(InputError, match="2 to 8"):
        quantize_weights(net(), bits=9)
    with pytest.raises(InputError, match="edge_bits"):
        quantize_weights(net(), bits=4, edge_bits=1)
    with pytest.raises(InputError, match="no float Linear or Conv2d"):
        quantize_weights(Seq(IF(steps=1)), bits=4)


def test_training_on_the_grid_learns() -> None:
    """Thirty steps of 2-bit weights and integer neurons on a separable toy lower the loss to a third."""
    torch.manual_seed(0)
    model = Seq(nn.Linear(6, 32), Repeat(2), LMHT(steps=2), nn.Linear(32, 32), LMHT(steps=2), nn.Linear(32, 2))
    quantize_neurons(quantize_weights(model, bits=2))
    x = torch.randn(128, 6)
    y = (x[:, 0] + x[:, 1] > 0).long()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(x).mean(0), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3
