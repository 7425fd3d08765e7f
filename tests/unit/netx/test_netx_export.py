"""Programs written as `.net` files: read back they send the same payloads, and what NetX cannot say is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn2chip import Input, Output, Program, Soma, Synapse, run
from snn2chip.errors import UnsupportedError
from snn2chip.frontends.netx import import_netx, netx_input
from snn2chip.interop.netx import export_netx

RNG = np.random.default_rng(5)
STEPS = 7


def chain(*layers: Any, shape: tuple[int, ...], read: str = "count", steps: int = STEPS) -> Program:
    """A program of synapse, soma, synapse, soma .. from binary spikes."""
    nodes = [Input("in", shape, 0, 1, coding="steps"), *layers, Output("out", read)]
    return Program(nodes=nodes, edges=[(a.name, b.name) for a, b in pairwise(nodes)], steps=steps)


def hidden(name: str, *shape: int, **fields: Any) -> Soma:
    """A neuron that resets to zero."""
    return Soma(name, shape, **{"reset": "zero", "payload_bits": 1, **fields})


def weights(*shape: int, lo: int = -60, hi: int = 90) -> np.ndarray:
    """Weights with both signs."""
    return RNG.integers(lo, hi, shape)


def dense_net(**fields: Any) -> Program:
    """Two dense layers and a read-out."""
    return chain(
        Synapse("w1", "linear", weights(9, 6)),
        hidden("n1", 9, **fields),
        Synapse("w2", "linear", weights(8, 9), exponent=1),
        hidden("n2", 8, **fields),
        Synapse("w3", "linear", weights(3, 8)),
        Soma("n3", (3,), fire="none", bias=fields.get("bias", 0)),
        shape=(6,),
        read="potential",
    )


NETS = {
    "if": lambda: dense_net(theta=60),
    "if with bias and gain": lambda: dense_net(theta=401, bias=35, gain=5),
    "one step memory": lambda: dense_net(theta=20, leak=0),
    "aligned leaky": lambda: dense_net(theta=64 * 50 + 1, leak=3000, gain=64, bias=640),
    "current-based": lambda: dense_net(theta=64 * 90 + 1, leak=3500, syn_leak=2000, gain=64, bias=-128),
    "thresholds per neuron": lambda: chain(
        Synapse("w1", "linear", weights(5, 6)), hidden("n1", 5, theta=RNG.integers(20, 90, 5)), shape=(6,)
    ),
    "conv": lambda: chain(
        Synapse("c1", "conv2d", weights(4, 2, 3, 3), padding=1, stride=2),
        hidden("n1", 4, 4, 3, theta=80, bias=np.array([3, -2, 0, 9])),
        Synapse("p", "sumpool", kernel_size=(2, 1)),
        hidden("n2", 4, 2, 3, theta=2),
        Synapse("c2", "conv2d", weights(6, 2, 2, 2), groups=2),
        hidden("n3", 6, 1, 2, theta=70),
        Synapse("fc", "linear", weights(5, 12)),
        Soma("n4", (5,), fire="none"),
        shape=(2, 7, 6),
        read="potential",
    ),
}


def entered(first: Soma, *layers: Any, lo: int = 0, hi: int = 255) -> Program:
    """A program whose input is the bias of its first neurons."""
    given = Input("in", first.shape, lo, hi, coding="repeat")
    nodes = [given, Synapse("id", "identity"), first, *layers, Output("out", "count")]
    return Program(nodes=nodes, edges=[(a.name, b.name) for a, b in pairwise(nodes)], steps=16)


ENTRIES = {
    "input neurons, planes": lambda: entered(
        hidden("n0", 2, 5, 4, theta=np.array([900, 700]), gain=5),
        Synapse("c1", "conv2d", weights(3, 2, 3, 3)),
        hidden("n1", 3, 3, 2, theta=80),
        Synapse("fc", "linear", weights(4, 18)),
        hidden("n2", 4, theta=90),
    ),
    "input neurons, aligned": lambda: entered(
        hidden("n0", 6, theta=64 * 300 + 1, leak=3500, gain=64),
        Synapse("w1", "linear", weights(5, 6)),
        hidden("n1", 5, theta=64 * 40 + 1, leak=3000, syn_leak=1000, gain=64, bias=64),
        lo=-90,
        hi=200,
    ),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_input_neurons_round_trip(name: str, tmp_path: Path) -> None:
    """Input, identity, soma are NetX's input layer with neurons; written once more, the file says the same."""
    program = ENTRIES[name]()
    notes = export_netx(program, tmp_path / "x.net")
    assert notes[0].startswith("run: netx.hdf5.Network(FILE, reset_interval=16); a sample is set as net.in_layer")
    again = import_netx(tmp_path / "x.net")
    given = program.inputs[0].payload_type()
    x = RNG.integers(given.lo, given.hi + 1, (5, *program.inputs[0].shape))
    assert np.array_equal(netx_input(again, x), x)
    one, two = run(program, x), run(again, x)
    for a, b in zip(program.somas, again.somas, strict=True):
        assert np.array_equal(one.payloads[a.name].reshape(16, 5, -1), two.payloads[b.name].reshape(16, 5, -1))
        assert one.payloads[a.name].any()
    export_netx(again, tmp_path / "y.net")
    assert import_netx(tmp_path / "y.net").digest() == again.digest()


def test_the_transform_of_raw_samples_is_kept(net: Any, files: Any, tmp_path: Path) -> None:
    """weight and bias of an input layer are those of the file that was read."""
    layers = (files.inputs((4,), weight=40, bias=-3, neuron=files.neuron()), files.dense(weights(3, 4)))
    program = import_netx(net(*layers))
    export_netx(program, tmp_path / "x.net")
    again = import_netx(tmp_path / "x.net")
    assert again.meta["input_transform"] == {"weight": 40, "bias": -3}
    assert again.digest() == program.digest()


@pytest.mark.parametrize(
    ("fields", "of_input", "text"),
    [
        ({"bias": 3}, {}, "n0 has biases of its own"),
        ({"syn_leak": 100}, {}, "n0 adds its input to a current"),
        ({}, {"hi": 40000}, "in has values 0..40000, beyond 16 bits"),
    ],
)
def test_inputs_that_are_no_input_layer(
    fields: dict[str, Any], of_input: dict[str, Any], text: str, tmp_path: Path
) -> None:
    """What NetX's input layer does not do is one line, and the convolution behind it none."""
    first = hidden("n0", 1, 4, 4, theta=300, **fields)
    program = entered(first, Synapse("c1", "conv2d", weights(2, 1, 3, 3)), hidden("n1", 2, 2, 2, theta=80), **of_input)
    with pytest.raises(UnsupportedError, match=text) as error:
        export_netx(program, tmp_path / "x.net")
    assert [line for line in error.value.breaches if "convolution" in line] == []
    steady = chain(Synapse("id", "identity"), hidden("n0", 6, theta=3), shape=(6,))
    with pytest.raises(UnsupportedError, match="in changes from step to step"):
        export_netx(steady, tmp_path / "x.net")


def test_a_synapse_that_no_layer_is(tmp_path: Path) -> None:
    """An identity inside a chain is named, with its article, and says nothing of the convolution behind it."""
    program = chain(
        Synapse("c1", "conv2d", weights(2, 1, 3, 3)),
        hidden("n1", 2, 2, 2, theta=80),
        Synapse("id", "identity"),
        hidden("n2", 2, 2, 2, theta=1),
        Synapse("c2", "conv2d", weights(2, 2, 2, 2)),
        hidden("n3", 2, 1, 1, theta=80),
        shape=(1, 4, 4),
    )
    with pytest.raises(UnsupportedError) as error:
        export_netx(program, tmp_path / "x.net")
    (line,) = error.value.breaches
    assert line.startswith("n2: an identity synapse behind another layer has no NetX layer")


@pytest.mark.parametrize("name", NETS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    """What the importer makes of the file sends the same payloads; potentials that are read are 64/gain times ours."""
    program = NETS[name]()
    notes = export_netx(program, tmp_path / "x.net")
    assert f"reset_interval={STEPS}" in notes[0]
    again = import_netx(tmp_path / "x.net", steps=STEPS)
    x = RNG.integers(0, 2, (STEPS, 5, *program.inputs[0].shape))
    flat = x.reshape(STEPS, 5, *again.inputs[0].shape)
    one, two = run(program, x, time_axis=True), run(again, flat, time_axis=True)
    fired = 0
    for a, b in zip(program.somas, again.somas, strict=True):
        assert np.array_equal(one.payloads[a.name].reshape(STEPS, 5, -1), two.payloads[b.name].reshape(STEPS, 5, -1))
        fired += int(one.payloads[a.name].sum())
    assert fired > 0
    gain = int(program.somas[-1].gain.flat[0])
    if program.somas[-1].fire == "none":
        assert np.array_equal(one.outputs * 64, two.outputs * gain)
    else:
        assert np.array_equal(one.outputs, two.outputs)


def test_delays(tmp_path: Path) -> None:
    """Logical delays of dense layers are kept, one for all or one per weight."""
    spread = np.zeros((4, 6), np.int64)
    spread[:, ::2] = weights(4, 3)
    other = np.zeros((4, 6), np.int64)
    other[:, 1::2] = weights(4, 3)
    nodes = [
        Input("in", (6,), 0, 1, coding="steps"),
        Synapse("a", "linear", spread),
        Synapse("b", "linear", other),
        hidden("n", 4, theta=60),
        Output("out", "count"),
    ]
    edges = [("in", "a", 2), ("in", "b", 5), ("a", "n"), ("b", "n"), ("n", "out")]
    program = Program(nodes=nodes, edges=edges, steps=12)
    export_netx(program, tmp_path / "x.net")
    again = import_netx(tmp_path / "x.net", steps=12)
    x = RNG.integers(0, 2, (12, 5, 6))
    one, two = run(program, x, time_axis=True), run(again, x, time_axis=True)
    assert np.array_equal(one.payloads["n"], two.payloads[again.somas[0].name])
    assert one.payloads["n"].any()


REFUSED = {
    "levels": (dict(levels=3, payload_bits=2), "serialize-levels"),
    "reset": (dict(reset="subtract"), "resets to zero"),
    "start": (dict(v_init=4), "an initial potential"),
    "floor": (dict(v_min=-9), "a floor"),
    "leak": (dict(leak=2048), "need gain 64"),
    "growth": (dict(leak=5000), "growing leak"),
    "grid": (dict(leak=2048, gain=64, theta=640), "64 n \\+ 1"),
    "bias": (dict(gain=3, bias=4), "not multiples of the gain 3"),
    "large bias": (dict(bias=40000), "beyond 16 bits"),
    "large threshold": (dict(theta=1 << 18), "beyond 17 bits"),
    "levels by channel": (dict(levels=[1, 1, 3, 1, 1], payload_bits=2), "serialize-levels"),
    "shift by channel": (dict(gain=64, gain_shift=[1, 2, 1, 1, 1]), "gain_shift"),
    "scale by channel": (dict(out_gain=4, out_shift=[1, 2, 1, 1, 1], payload_bits=3), "payloads that are scaled"),
    "window": (dict(window=np.ones((STEPS, STEPS), int)), "a window"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    """Each thing that NetX cannot say is named with its soma, and nothing is written."""
    fields, text = REFUSED[name]
    program = chain(Synapse("w", "linear", weights(5, 6)), hidden("n1", 5, **{"theta": 50, **fields}), shape=(6,))
    with pytest.raises(UnsupportedError, match=f"n1.*{text}"):
        export_netx(program, tmp_path / "x.net")
    assert not list(tmp_path.iterdir())


def test_all_breaches_at_once(tmp_path: Path) -> None:
    """Every soma with something wrong is listed."""
    with pytest.raises(UnsupportedError) as error:
        export_netx(dense_net(theta=50, reset="subtract"), tmp_path / "x.net")
    assert ["n1" in str(error.value), "n2" in str(error.value)] == [True, True]


def test_weights_netx_would_change(tmp_path: Path) -> None:
    """Negative powers of two, which NetX turns into zeros, are refused."""
    program = chain(Synapse("w", "linear", np.full((4, 6), -1)), hidden("n1", 4, theta=5, bias=9), shape=(6,))
    with pytest.raises(UnsupportedError, match="NetX"):
        export_netx(program, tmp_path / "x.net")


def test_branches(tmp_path: Path) -> None:
    """A second path is refused by name."""
    nodes = [
        Input("in", (4,), 0, 1, coding="steps"),
        Synapse("w1", "linear", weights(4, 4)),
        hidden("n1", 4, theta=30),
        Synapse("w2", "linear", weights(4, 4)),
        Synapse("skip", "linear", weights(4, 4)),
        hidden("n2", 4, theta=30),
        Output("out", "count"),
    ]
    edges = [("in", "w1"), ("w1", "n1"), ("n1", "w2"), ("w2", "n2"), ("in", "skip"), ("skip", "n2"), ("n2", "out")]
    with pytest.raises(UnsupportedError, match="n2: reads in, n1"):
        export_netx(Program(nodes=nodes, edges=edges, steps=3), tmp_path / "x.net")
