"""Loops of a `.nir` file, through a map, a factor or nothing, against the equation and in bounded memory."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch
from nir_files import chain, cuba, given, lif, linear, read, write
from test_nir_hostile import bounded

import snn2chip
from snn2chip.compiler import compile_float_graph
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.frontends.nir import import_nir
from snn2chip.frontends.nir_file import read_nir
from snn2chip.interop.nir_graph import export_graph
from snn2chip.interop.nir_look import look
from snn2chip.ir.graph_files import to_parts
from snn2chip.passes import run_passes

T = 12
W = np.random.default_rng(6).integers(-8, 9, (7, 5)) / 8.0
KERNEL = np.random.default_rng(7).integers(-3, 5, (3, 2, 3, 3)) / 8.0
CONV = {"type": "Conv2d", "weight": KERNEL, "bias": np.zeros(3), "stride": 1, "padding": 1, "dilation": 1, "groups": 1}


def looped(path, shape, first, back=None, *, given_shape=(5,), node=None):
    nodes = {"input": given(*given_shape), "map": first, "z": node or lif(*shape), "output": read(*shape)}
    edges = chain("input", "map", "z", "output")
    if back is None:
        return write(path, nodes, [*edges, ("z", "z")])
    return write(path, {**nodes, "back": back}, [*edges, ("z", "back"), ("back", "z")])


def spikes(current, factor):
    """v = 0.75 v + x + factor s(t-1), a spike at v > 1, then v = 0."""
    v, s = np.zeros(current.shape[1:]), np.zeros(current.shape[1:])
    found = []
    for x in current:
        v = 0.75 * v + x + factor * s
        s = (v > 1).astype(float)
        v = np.where(s > 0, 0.0, v)
        found.append(s)
    return np.array(found)


PLANE = {"shape": (3, 4, 6), "first": CONV, "given_shape": (2, 4, 6)}
ROW = {"shape": (7,), "first": linear(W)}
FACTORS = {
    "itself": (ROW, None, 1.0),
    "itself, on a plane": (PLANE, None, 1.0),
    "one factor": (ROW, {"type": "Scale", "scale": np.full(7, -0.5)}, -0.5),
    "a factor per neuron": (ROW, {"type": "Scale", "scale": np.linspace(-1, 0.5, 7)}, np.linspace(-1, 0.5, 7)),
    "a factor per channel": (
        PLANE,
        {"type": "Scale", "scale": np.array([-0.75, 0.25, 0.5])[:, None, None]},
        np.array([-0.75, 0.25, 0.5])[:, None, None],
    ),
}


@pytest.mark.parametrize("name", FACTORS)
def test_a_neuron_hears_itself(tmp_path, name):
    how, back, factor = FACTORS[name]
    made = import_nir(looped(tmp_path / "a.nir", back=back, **how), profile="generic", steps=T)
    x = 0.97 * np.random.default_rng(1).integers(0, 3, (T, 20, *how.get("given_shape", (5,))))
    if how is ROW:
        current = x @ W.T
    else:
        current = torch.conv2d(torch.tensor(x).flatten(0, 1), torch.tensor(KERNEL), padding=1)
        current = current.unflatten(0, (T, 20)).numpy()
    want = spikes(current, factor)
    got = made.run(torch.tensor(x), collect=True).values["z"].numpy()
    assert 0.05 < want.mean() < 0.95
    assert (want != spikes(current, 0.0)).any()
    assert np.array_equal(got, want)
    program = compile_float_graph(run_passes(made), x, weights="int8", time_axis=True)
    trace = snn2chip.run(program, x, backend="reference", time_axis=True)
    assert (trace.payloads["z"] != want).mean() < 0.02
    export_graph(made, tmp_path / "b.nir")
    (head, tensors), (again, found) = to_parts(made), to_parts(import_nir(tmp_path / "b.nir"))
    assert head == again
    assert all(torch.equal(tensors[key], found[key]) for key in tensors)
    told = import_nir(tmp_path / "b.nir", profile="generic", steps=T)
    assert np.array_equal(told.run(torch.tensor(x), collect=True).values["z"].numpy(), want)


def test_a_self_loop_of_many_neurons_takes_no_matrix(tmp_path):
    """Of 60,000 neurons it would be 28.8 GB."""
    few = {"type": "IF", "r": np.array([1e4]), "v_threshold": np.array([1.0]), "v_reset": np.array([0.0])}
    nodes = {"input": given(60_000), "z": few, "output": read(60_000)}
    path = write(tmp_path / "a.nir", nodes, [*chain("input", "z", "output"), ("z", "z")])
    made = bounded(lambda: import_nir(path, profile="generic", steps=2), 600)
    assert made.layer("z").feedback is not None
    assert "generic" in bounded(lambda: look(path), 600)["profiles"]


def test_scalars_of_many_neurons_stay_scalars(tmp_path):
    """64 million neurons of one kind: the profiles are tried on one number each."""
    values = {"tau_syn": 2e-4, "tau_mem": 2e-4, "r": 2.0, "v_leak": 0.0, "w_in": 2.0, "v_threshold": 1.0}
    node = {"type": "CubaLIF", **{key: np.array([value]) for key, value in values.items()}}
    nodes = {"input": given(1 << 26), "z": node, "output": read(1 << 26)}
    path = write(tmp_path / "a.nir", nodes, chain("input", "z", "output"))
    assert "snntorch" in bounded(lambda: look(path), 600)["profiles"]
    size = (1 << 22) + 2
    many = {**node, "v_threshold": np.tile(np.array([1, 2], np.int8), size // 2)}
    path = write(tmp_path / "b.nir", {**nodes, "input": given(size), "z": many, "output": read(size)},
                 chain("input", "z", "output"))  # fmt: skip
    with pytest.raises(InputError, match="v_threshold differs between 4194306 neurons; 4194304 at most"):
        bounded(lambda: import_nir(path, profile="generic", steps=2), 600)


WRONG = {
    "bias of another length": (linear(np.eye(7), np.ones(3)), r"through back \(Affine\): bias has shape \[3\]"),
    "fewer inputs": (linear(np.ones((7, 6))), r"through back \(Linear\): weight takes 6 inputs"),
    "more outputs": (linear(np.ones((9, 7))), r"through back \(Linear\): gives \[9\], the neurons are \[7\]"),
    "no weights": ({"type": "Linear"}, r"back \(Linear\): weight is missing"),
    "a scale of another shape": ({"type": "Scale", "scale": np.ones(3)}, r"through back \(Scale\): scale has shape"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_comes_back_must_fit(tmp_path, name):
    back, text = WRONG[name]
    path = looped(tmp_path / "a.nir", (7,), linear(W), back)
    for profile in ("generic", "snntorch"):
        with pytest.raises(InputError, match=text):
            import_nir(path, profile=profile, steps=T)
    assert look(path)["profiles"] == []


def test_a_late_bias_has_a_limit(tmp_path):
    path = looped(tmp_path / "a.nir", (7,), linear(W), linear(np.eye(7), np.ones(7)))
    import_nir(path, profile="generic", steps=1 << 16)
    many = {"type": "Affine", "weight": np.eye(300), "bias": np.ones(300)}
    nodes = {"input": given(300), "z": lif(300), "back": many, "output": read(300)}
    path = write(tmp_path / "c.nir", nodes, [*chain("input", "z", "output"), *chain("z", "back", "z")])
    with pytest.raises(UnsupportedError, match="65536 x 300 numbers"):
        import_nir(path, profile="generic", steps=1 << 16)


@pytest.mark.parametrize("kind", ["IF", "LIF", "CubaLIF"])
def test_a_late_bias_is_written_as_the_map_s_own(tmp_path, kind):
    """From the second step on in our graph, a bias of the recurrent map in the file: read again it is the same."""
    rng = np.random.default_rng(12)
    back = linear(rng.integers(-4, 5, (7, 7)) / 8.0, np.linspace(-0.25, 0.5, 7))
    node = {"IF": {"type": "IF", "r": np.full(7, 1e4), "v_threshold": np.ones(7)}, "LIF": lif(7)}.get(kind, cuba(7))
    made = import_nir(looped(tmp_path / "a.nir", (7,), linear(W), back, node=node), profile="generic", steps=T)
    assert made.layer("z").soma.bias.dim() == 2
    lost = export_graph(made, tmp_path / "b.nir")
    assert any("one step later, its bias from the second step on" in text for text in lost)
    (want, tensors), (got, found) = to_parts(made), to_parts(import_nir(tmp_path / "b.nir"))
    assert want == got
    assert all(torch.equal(tensors[key], found[key]) for key in tensors)
    (node,) = (n for n in read_nir(tmp_path / "b.nir").nodes.values() if n.kind == "Affine" and "back" in n.name)
    assert np.allclose(node.fields["bias"], back["bias"], atol=1e-6)
    again = import_nir(tmp_path / "b.nir", profile="generic", steps=T)
    x = 0.97 * rng.integers(0, 3, (T, 20, 5))
    one, two = (net.run(torch.tensor(x), collect=True).values["z"] for net in (made, again))
    assert 0.05 < float(one.mean()) < 0.95
    assert torch.equal(one, two)


@pytest.mark.parametrize("at", [1, 2, T - 1])
def test_a_bias_that_changes_otherwise_is_refused(tmp_path, at):
    back = linear(np.eye(7) / 4, np.linspace(-0.25, 0.5, 7))
    made = import_nir(looped(tmp_path / "a.nir", (7,), linear(W), back), profile="generic", steps=T)
    layer = made.layer("z")
    bias = layer.soma.bias.clone()
    bias[at, 3] += 0.01
    changed = made.with_layers(attrs.evolve(layer, soma=attrs.evolve(layer.soma, bias=bias)))
    with pytest.raises(UnsupportedError, match="bias that changes from step to step"):
        export_graph(changed, tmp_path / "b.nir")
