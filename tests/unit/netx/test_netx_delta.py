"""Sigma-delta and recurrent layers of `.net` files: their equations on plain integers, and what is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import snn2chip
from snn2chip.errors import FileFormatError, InputError, UnsupportedError
from snn2chip.frontends.netx import import_netx
from snn2chip.frontends.netx_weights import netx_dense_weights, netx_joined_weights
from snn2chip.ir.types import V_MAX


def run(program, x):
    return snn2chip.run(program, np.asarray(x), backend="reference", time_axis=True)


def sdn(currents, *, theta, bias, exponent):
    """Lava's fixed-point sigma-delta neuron, one neuron on plain integers: sends, by residues."""
    sigma = act = residue = 0
    found = []
    for a in currents:
        sigma += a
        new = max(sigma + (bias << exponent), 0)
        delta = new - act + residue
        s = delta if abs(delta) >= theta << exponent else 0
        residue, act = delta - s, new
        found.append(s >> 6)
    return found


@pytest.mark.parametrize("spike_exp", [0, 3, 6])
def test_encoder_and_layer_equal_the_equations(net, files, spike_exp):
    """x becomes changes of x << spike_exp; a hidden layer has 6 more fraction bits; both one step apart."""
    x = np.random.default_rng(spike_exp).integers(-40, 41, 24)
    layers = (
        files.inputs((1,), neuron=files.delta(5)),
        files.dense([[23], [-31], [60]], bias=np.array([4, -2, 0]), neuron=files.delta(7)),
    )
    program = import_netx(net(*layers), steps=24, spike_exp=spike_exp)
    trace = run(program, x[:, None, None])
    sent, last = [], 0
    for value in x:
        d = int(value) - last
        sent.append(d << spike_exp if abs(d) >= 5 else 0)
        last = int(value) if abs(d) >= 5 else last
    assert trace.payloads["layer0"][:, 0, 0].tolist() == sent
    for i, (w, bias) in enumerate(((23, 4), (-31, -2), (60, 0))):
        currents = [0, *(w * s for s in sent[:-1])]
        want = sdn(currents, theta=7, bias=bias, exponent=spike_exp + 6)
        assert trace.payloads["layer1"][:, 0, i].tolist() == want
        assert any(want)
    assert program["out"].read == "payload"
    assert program.meta["pipelined"] is True


def test_logical_time_on_request(net, files):
    layers = (files.inputs((2,), neuron=files.delta(1)), files.dense([[3, -4]], neuron=files.delta(0)))
    program = import_netx(net(*layers), steps=2, pipelined=False)
    assert all(edge.delay == 0 for edge in program.edges)
    assert run(program, [[[5, 1]], [[5, 0]]]).payloads["layer1"].ravel().tolist() == [11, 4]


def test_machine_time_of_ordinary_neurons(net, files):
    """The same spikes later, as long as there is no bias that speaks first."""
    path = net(files.dense([[50, 90]]), files.dense([[200]]))
    x = np.random.default_rng(3).integers(0, 2, (12, 1, 2))
    late = run(import_netx(path, steps=12, pipelined=True), x).payloads["layer1"]
    prompt = run(import_netx(path, steps=12), x).payloads["layer1"]
    assert (late[2:] == prompt[:-2]).all()
    assert prompt.any()


def test_sum_in_the_middle_sends_what_it_has_added_up(net, files):
    layers = (
        files.dense([[2]], neuron=files.delta(0, sigma_output=False)),
        files.dense([[1]], neuron=files.delta(0, sigma_output=True)),
    )
    program = import_netx(net(*layers), steps=4, input_range=(-8, 7))
    trace = run(program, np.array([3, -1, 4, 0]).reshape(4, 1, 1))
    assert trace.payloads["layer0"].ravel().tolist() == [0, 6, 4, 12]
    assert trace.potentials["layer1"].ravel().tolist() == [0, 0, 6, 10]


def test_recurrent_layer_hears_itself_one_step_later(net, files):
    """a(t) = W p(t) + W_rec s(t - 1), whatever the order of the steps is."""
    layer = files.recurrent([[100, 100], [0, 90]], [[0, -99], [127, 0]], neuron=files.neuron(iDecay=4096, vThMant=80))
    x = [[1, 0], [0, 0], [0, 1], [1, 1], [0, 0]]
    trace = run(import_netx(net(layer), steps=5), np.array(x)[:, None])
    s, v, want = np.zeros(2, int), np.zeros(2, int), []
    for p in x:
        a = np.array([[100, 100], [0, 90]]) @ p + np.array([[0, -99], [127, 0]]) @ s
        v = np.trunc(v * (4096 - 128) / 4096).astype(int) + 64 * a
        s = (v > 64 * 80).astype(int)
        v = np.where(s, 0, v)
        want.append(s.tolist())
    assert trace.payloads["layer0"][:, 0].tolist() == want
    assert {1, 0} <= {n for row in want for n in row}


def test_a_recurrent_layer_runs_on_two_backends(net, files):
    rng = np.random.default_rng(5)
    layers = (
        files.recurrent(rng.integers(-40, 90, (6, 4)), rng.integers(-60, 60, (6, 6))),
        files.dense(rng.integers(-9, 60, (3, 6))),
    )
    program = import_netx(net(*layers), steps=10)
    result = snn2chip.check(program, rng.integers(0, 2, (10, 3, 4)), backends=("reference", "torch"))
    result.raise_if_different()


REFUSED = {
    "activation": (lambda f: [f.dense([[1]], neuron=f.delta(1, activation="sigmoid"))], r"ignore=\('activation',\)"),
    "messageBits": (lambda f: [f.dense([[1]], neuron=f.delta(1, messageBits=8))], "messageBits stops NetX"),
    "threshold": (lambda f: [f.dense([[1]], neuron=f.delta(2048))], "vThMant 2048 is beyond 24 bits with 12"),
    "bias": (lambda f: [f.dense([[1]], bias=np.array([-2048]), neuron=f.delta(1))], "bias -2048 is beyond 24 bits"),
    "bias of a sum": (
        lambda f: [f.dense([[1]], bias=np.array([1]), neuron=f.delta(1, sigma_output=True))],
        "a bias, which NetX's Sigma does not take",
    ),
    "binary loop": (lambda f: [f.recurrent([[1]], [[1]], neuron=f.delta(1))], "makes binary what comes back"),
    "delayed loop": (lambda f: [f.recurrent([[3]], [[1]], delay=2)], "NetX loses the exponent"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(net, files, name):
    layers, text = REFUSED[name]
    with pytest.raises(UnsupportedError, match=text):
        import_netx(net(*layers(files)), steps=3)


def test_what_is_refused_can_be_had_by_name(net, files):
    odd = files.delta(1, activation="sigmoid")
    program = import_netx(net(files.dense([[1]], neuron=odd)), steps=3, ignore=("activation",))
    assert "activation = sigmoid is ignored" in program.meta["notes"][0]
    loop = import_netx(net(files.recurrent([[3]], [[1]], delay=2)), steps=3, numbers="file")
    assert sorted(edge.delay for edge in loop.edges) == [0, 0, 0, 2, 3]


def test_limits_are_legal(net, files):
    layer = files.dense([[1]], bias=np.array([2047]), neuron=files.delta(2047))
    program = import_netx(net(layer), steps=3)
    assert program.somas[0].theta.item() == 2047 << 12 <= V_MAX
    with pytest.raises(UnsupportedError, match="does not reset sigma-delta neurons"):
        import_netx(net(layer), steps=3, reset_interval=2)
    with pytest.raises(InputError, match=r"spike_exp must be a whole number in 0\.\.7, got 8"):
        import_netx(net(layer), steps=3, spike_exp=8)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda g: g.__delitem__("neuron/vThMant"), "neuron/vThMant is missing"),
        (lambda g: (g.__delitem__("neuron/vThMant"), g.create_dataset("neuron/vThMant", data=[1, 2])), "has 2 values"),
        (lambda g: (g.__delitem__("neuron/activation"), g.create_dataset("neuron/activation", data=3)), "a text"),
        (lambda g: g.__delitem__("weight_rec"), "'weight_rec' is missing"),
        (
            lambda g: (g.__delitem__("weight_rec"), g.create_dataset("weight_rec", data=np.ones((2, 3)))),
            r"weight_rec \(2, 3\) does not map 2 inputs to 2 neurons",
        ),
    ],
)
def test_damage_is_named(net, files, change, text):
    path = net(files.recurrent(np.eye(2), np.eye(2), neuron=files.delta(1)))
    with h5py.File(path, "r+") as file:
        change(file["layer/0"])
    with pytest.raises(FileFormatError, match=text):
        import_netx(path, steps=3, input_range=(-4, 3))


def test_joined_weights_are_scaled_as_one() -> None:
    """Beside odd weights that need all bits, even small ones keep their lowest; alone each is what it was alone."""
    a, b = np.array([[127, -3]]), np.array([[1, -1]])
    assert [part.weight.tolist() for part in netx_joined_weights([a, b])] == [a.tolist(), b.tolist()]
    for w in (a, b, np.array([[-4, -1]])):
        alone, same = netx_dense_weights(w), netx_joined_weights([w])[0]
        assert (alone.weight == same.weight).all()
        assert alone.changes == same.changes
    inhibitory = netx_joined_weights([np.array([[8, 255]]), np.array([[-8, -255]])])
    assert all(not part.refusal for part in inhibitory)
    nothing = netx_joined_weights([np.zeros((1, 2), int), np.zeros((1, 1), int)])
    assert all("OverflowError" in part.changes for part in nothing)
