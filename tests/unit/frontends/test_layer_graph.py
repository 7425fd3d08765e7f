"""The float graph itself: shapes by hand, all breaches at once, the two input forms, teacher forcing, the soma."""

from __future__ import annotations

import pytest
import torch

from snn2chip.errors import InputError, TraceError, UnsupportedError
from snn2chip.ir.channel_layers import AvgPoolLayer
from snn2chip.ir.float_run import run_soma
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import AddLayer, FloatSoma, InputLayer, Layer, OutputLayer
from snn2chip.ir.linear_layers import Conv2dLayer, LinearLayer, WeightParts
from snn2chip.ir.neuron_layer import NeuronLayer

CHAIN = {"a": ("input",), "n": ("a",), "b": ("n",), "output": ("b",)}


def chain(*, steps: int = 2, order: tuple[int, ...] = (0, 1, 2, 3, 4)) -> LayerGraph:
    """a: x -> 2x, n: IF with theta 1, b: s -> 3s + 1, mean over steps."""
    one = torch.ones(1, 1).double()
    layers: list[Layer] = [
        InputLayer(name="input", shape=(1,)),
        LinearLayer(name="a", path="net.0", source="model.py:7", weight=2 * one),
        NeuronLayer(name="n", path="net.1", soma=FloatSoma(steps=steps, theta=1.0, unit=1.0)),
        LinearLayer(name="b", path="net.2", weight=3 * one, bias=one[0]),
        OutputLayer(name="output"),
    ]
    return LayerGraph(layers=tuple(layers[i] for i in order), inputs=CHAIN, steps=steps)


def test_text_and_order() -> None:
    expected = (
        "graph steps=2\n"
        "  input = input() : 1\n"
        "  a = linear(input) : 1  weight=2  # net.0\n"
        "  n = neuron(a) : 1  fire=levels  reset=subtract  levels=1  theta=1  unit=1  # net.1\n"
        "  b = linear(n) : 1  weight=3  bias=1  # net.2\n"
        "  output = output(b) : 1  reduce=mean\n"
    )
    assert chain().text() == expected
    assert chain(order=(4, 2, 0, 3, 1)).text() == expected
    assert "# net.0 model.py:7" in chain().text(sources=True)


def test_run_by_hand_with_and_without_forcing() -> None:
    """Currents 0.75: v = 0.75, 1.5 -> spikes 0, 1; payloads 0, 1; logits 1, 4; mean 2.5."""
    graph = chain()
    x = torch.tensor([[0.375]], dtype=torch.float64)
    run = graph.run(x, collect=True)
    assert run.output.tolist() == [[2.5]]
    assert run.values["n"].flatten().tolist() == [0.0, 1.0]
    assert run.before["n"].flatten().tolist() == [0.75, 1.5]
    assert run.after["n"].flatten().tolist() == [0.75, 0.5]
    assert graph.run(x.expand(2, 1, 1)).output.tolist() == [[2.5]]
    forced = graph.run(x, collect=True, forced={"a": torch.tensor([[[5.0]], [[0.0]]])})
    assert forced.values["a"].flatten().tolist() == [0.75, 0.75]  # its own value is still reported
    assert forced.values["n"].flatten().tolist() == [1.0, 1.0]
    assert forced.output.tolist() == [[4.0]]


def test_input_breaches() -> None:
    with pytest.raises(InputError, match=r"expected \[2, 'B', 1\] or \['B', 1\], got \[3, 4, 1\]"):
        chain().run(torch.zeros(3, 4, 1))
    with pytest.raises(InputError, match="no such layer"):
        chain().run(torch.zeros(4, 1), forced={"zz": torch.zeros(1)})


def test_shapes_by_hand() -> None:
    layers = (
        InputLayer(name="input", shape=(4, 9, 8)),
        Conv2dLayer(
            name="conv", weight=torch.zeros(6, 2, 3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 3), groups=2
        ),
        AvgPoolLayer(name="pool", kernel=2, stride=2, factor=0.25),
        OutputLayer(name="output", shape=(6, 4)),
    )
    inputs = {"conv": ("input",), "pool": ("conv",), "output": ("pool",)}
    graph = LayerGraph(layers=layers, inputs=inputs)
    # rows (9 + 2 - 2 - 1)/2 + 1 = 5, columns 8 - 3 - 1 + 1 = 5; pooled 2 x 2
    assert graph.shapes["conv"] == (6, 5, 5)
    assert graph.shapes["pool"] == (6, 2, 2)
    assert graph.shapes["output"] == (6, 4)
    assert graph.run(torch.zeros(3, 4, 9, 8)).output.shape == (3, 6, 4)


def test_all_shape_breaches_at_once() -> None:
    soma = FloatSoma(steps=3, theta=1.0, unit=1.0, bias=torch.zeros(5))
    layers = (
        InputLayer(name="input", shape=(2, 4, 4)),
        Conv2dLayer(name="conv", path="net.c", weight=torch.zeros(2, 3, 3, 3), bias=torch.zeros(4)),
        LinearLayer(
            name="fc",
            weight=torch.zeros(2, 31),
            parts=WeightParts(scale=torch.ones(2), integers=torch.ones(2, 31).long()),
        ),
        NeuronLayer(name="n", soma=soma),
        AddLayer(name="sum"),
        OutputLayer(name="output"),
    )
    inputs = {"conv": ("input",), "fc": ("input",), "n": ("input",), "sum": ("conv", "fc", "n"), "output": ("sum",)}
    with pytest.raises(TraceError) as error:
        LayerGraph(layers=layers, inputs=inputs, steps=2)
    assert [b.split(": ", 1)[0] for b in error.value.breaches] == ["conv (net.c)", "fc", "n", "n"]
    text = str(error.value)
    for piece in (
        "bias has shape [4], expected [2]",
        "differ in shape or value",
        "bias has shape [5]",
        "runs 3 steps, the graph 2",
    ):
        assert piece in text


def test_all_edge_breaches_at_once() -> None:
    layers = (
        InputLayer(name="input", shape=(1,)),
        AddLayer(name="sum"),
        LinearLayer(name="fc", weight=torch.ones(1, 1)),
        LinearLayer(name="fc", weight=torch.ones(1, 1)),
        OutputLayer(name="output"),
    )
    with pytest.raises(TraceError) as error:
        LayerGraph(layers=layers, inputs={"fc": ("nowhere", "input"), "ghost": ("input",), "output": ("fc",)})
    text = str(error.value)
    for piece in (
        "fc: two layers have this name",
        "ghost: edges into a layer that does not exist",
        "reads 'nowhere', which does not exist",
        "fc: expected 1 inputs of this linear, got 2",
        "sum: expected some inputs of this add, got 0",
        "sum: nothing reads it",
    ):
        assert piece in text


def test_cycle_is_named() -> None:
    layers = (InputLayer(name="input", shape=(1,)), AddLayer(name="p"), AddLayer(name="q"), OutputLayer(name="output"))
    with pytest.raises(TraceError, match=r"cycle (p -> q|q -> p): recurrent"):
        LayerGraph(layers=layers, inputs={"p": ("input", "q"), "q": ("p",), "output": ("q",)})


def test_normal_form_breaches() -> None:
    assert chain().normal_form_breaches() == []
    graph = chain().with_normalisation(scale=0.5)
    assert graph.normal_form_breaches() == ["input: scale, mean or std is left; run the default passes"]
    layers = (*chain().layers, AddLayer(name="sum"))
    inputs = {**CHAIN, "sum": ("a", "b"), "output": ("sum",)}
    shared = LayerGraph(layers=layers, inputs=inputs, steps=2)
    assert shared.normal_form_breaches() == ["sum: a (net.0) feeds other layers than this sum"]
    chained = {"a": ("input",), "b": ("a",), "n": ("input",), "sum": ("n", "b"), "output": ("sum",)}
    assert LayerGraph(layers=layers, inputs=chained, steps=2).normal_form_breaches() == [
        "n (net.1): this neuron cannot read input, a input; run the default passes",
        "b (net.2): this linear cannot read a (net.0), a linear; run the default passes",
        "sum: this add cannot read n (net.1), a neuron; run the default passes",
    ]


WINDOW = torch.tensor([[3.0, 0, 0, 0], [0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 1, 1]])
CURRENT = torch.tensor([5.0, 9.0, -3.0, 40.0], dtype=torch.float64).view(4, 1, 1)


@pytest.mark.parametrize(
    ("fields", "payloads", "after"),
    [
        # m = 10 + 1, 0.5*4 + 18 + 1, 0.5*6 - 6 + 1, -2 + 80 + 1 = 11, 21, -2, 79
        (
            {
                "fire": "excess", "reset": "clamp", "gain": 2.0, "bias": 1.0,
                "theta": torch.tensor([[4.0], [6.0], [6.0], [8.0]]), "leak": torch.tensor([[1.0], [0.5], [0.5], [1.0]]),
            },
            [7.0, 15.0, 0.0, 71.0],
            [4.0, 6.0, -2.0, 8.0],
        ),
        # levels 3, theta 4: m = 5, 10, -1, 39
        ({"levels": 3, "theta": 4.0}, [1.0, 2.0, 0.0, 3.0], [1.0, 2.0, -1.0, 27.0]),
        ({"reset": "zero", "theta": 4.0, "v_init": 1.0}, [1.0, 1.0, 0.0, 1.0], [0.0, 0.0, -3.0, 0.0]),
        ({"fire": "relay", "reset": "drop", "theta": 1.0, "unit": 0.5}, [2.5, 4.5, -1.5, 20.0], [0.0] * 4),
        ({"fire": "none", "theta": 1.0, "leak": 0.5}, [0.0] * 4, [5.0, 11.5, 2.75, 41.375]),
        # mixed currents 15, 9, 15, 37: m = 15, 14, 19, 46
        (
            {"levels": 9, "theta": 10.0, "window": WINDOW},
            [1.0, 1.0, 1.0, 4.0],
            [5.0, 4.0, 9.0, 6.0],
        ),
    ],
    ids=["excess", "levels", "zero", "relay", "none", "window"],
)  # fmt: skip
def test_soma_by_hand(fields: dict[str, object], payloads: list[float], after: list[float]) -> None:
    run = run_soma(FloatSoma(**{"steps": 4, "unit": 1.0, **fields}), CURRENT)  # type: ignore[arg-type]
    assert run.payload.flatten().tolist() == payloads
    assert run.after.flatten().tolist() == after


def test_unknown_rule_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="fire=table"):
        run_soma(FloatSoma(steps=4, theta=1.0, unit=1.0, fire="table"), CURRENT)
