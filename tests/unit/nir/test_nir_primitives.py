"""Every primitive against its own equation in NumPy float64, one step after the other, and lowered to integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nir_files import chain, cuba, given, graph, lif, linear, read, write

import snn2chip
from snn2chip.compiler import compile_float_graph
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.frontends.nir import import_nir
from snn2chip.passes import run_passes

T, DT = 10, 1e-4
RNG = np.random.default_rng(6)
W = RNG.integers(-8, 9, (7, 5)) / 8.0


def neuron(kind, *shape, **values):
    return {"type": kind, **{k: np.full(shape, v) for k, v in values.items()}}


def network(path, node, *, shape=(5,), steps=T, before=None, out=(7,), **more):
    first = linear(W) if before is None else before
    nodes = {"input": given(*shape), "map": first, "node": node, "output": read(*out)}
    path = write(path, nodes, chain("input", "map", "node", "output"))
    return import_nir(path, **{"profile": "generic", "steps": steps, **more})


def inputs(*shape, batch=12):
    return np.random.default_rng(9).integers(0, 3, (T, batch, *shape)).astype(np.float64)


def steps_of(made, x):
    return made.run(torch.tensor(x), collect=True)


def simulated(x, *, leak, gain, theta=None, bias=0.0, syn=None, w_in=1.0, v_reset=0.0):
    """Spikes, or potentials of a neuron that never fires, by the Euler equations of `nir_profiles`."""
    v, u, out = np.zeros(x.shape[1:]), np.zeros(x.shape[1:]), []
    for step in x:
        u = step if syn is None else syn * u + w_in * step
        v = leak * v + gain * u + bias
        if theta is None:
            out.append(v)
            continue
        s = v > theta
        v = np.where(s, v_reset, v)
        out.append(s)
    return np.array(out, dtype=np.float64)


FIRING = {
    "IF": (neuron("IF", 7, r=1e4, v_threshold=1.3, v_reset=0.0), dict(leak=1.0, gain=1.0, theta=1.3)),
    "IF, reset to a value": (
        neuron("IF", 7, r=5e3, v_threshold=0.9, v_reset=-0.25),
        dict(leak=1.0, gain=0.5, theta=0.9, v_reset=-0.25),
    ),
    "LIF": (
        neuron("LIF", 7, tau=4e-4, r=2.0, v_leak=0.5, v_threshold=0.8, v_reset=0.125),
        dict(leak=0.75, gain=0.5, bias=0.125, theta=0.8, v_reset=0.125),
    ),
    "CubaLIF": (
        {**neuron("CubaLIF", 7, tau_syn=2e-4, tau_mem=4e-4, r=4.0, v_leak=0.1, v_threshold=1.1, v_reset=0.0, w_in=1.0)},
        dict(leak=0.75, gain=1.0, bias=0.025, syn=0.5, w_in=0.5, theta=1.1),
    ),
}


@pytest.mark.parametrize("name", FIRING)
def test_neurons_that_fire(tmp_path, name):
    node, rule = FIRING[name]
    made = network(tmp_path / "a.nir", node)
    x = inputs(5)
    want = simulated(x @ W.T, **rule)
    got = steps_of(made, x).values["node"].numpy()
    assert 0.02 < want.mean() < 0.9
    assert np.array_equal(got, want)
    program = compile_float_graph(run_passes(made), x, weights="int8", time_axis=True)
    trace = snn2chip.run(program, x, backend="reference", time_axis=True)
    assert (trace.payloads["node"] != want).mean() < 0.02


SILENT = {
    "I": (neuron("I", 7, r=2e3), dict(leak=1.0, gain=0.2)),
    "LI": (neuron("LI", 7, tau=4e-4, r=3.0, v_leak=0.5), dict(leak=0.75, gain=0.75, bias=0.125)),
    "CubaLI": (
        neuron("CubaLI", 7, tau_syn=2e-4, tau_mem=8e-4, r=4.0, v_leak=0.0, w_in=2.0),
        dict(leak=0.875, gain=0.5, syn=0.5, w_in=1.0),
    ),
}


@pytest.mark.parametrize("name", SILENT)
def test_neurons_that_are_read(tmp_path, name):
    node, rule = SILENT[name]
    made = network(tmp_path / "a.nir", node)
    x = inputs(5)
    want = simulated(x @ W.T, **rule)[-1]
    assert np.allclose(made.run(torch.tensor(x)).output.numpy(), want, atol=1e-9)
    program = compile_float_graph(run_passes(made), x, weights="int8", time_axis=True)
    unit = program.meta["units"]["payload"][program.meta["layers"]["node"]][0]
    got = snn2chip.run(program, x, backend="reference", time_axis=True).outputs * unit
    assert np.abs(got - want).max() < 0.01 * np.abs(want).max()


def test_a_read_potential_cannot_feed_a_layer(tmp_path):
    nodes = {
        "input": given(5),
        "map": linear(W),
        "li": SILENT["LI"][0],
        "fc": linear(W.T),
        "lif": lif(5),
        "output": read(5),
    }
    path = write(tmp_path / "a.nir", nodes, chain("input", "map", "li", "fc", "lif", "output"))
    with pytest.raises(UnsupportedError, match=r"li \(LI\): .* after the last step, not at every step by fc"):
        import_nir(path, profile="generic", steps=T)
    nodes["fc"] = {"type": "Threshold", "threshold": np.ones(7)}
    nodes |= {"lif": linear(np.eye(7)), "output": read(7)}
    path = write(tmp_path / "a.nir", nodes, chain("input", "map", "li", "fc", "lif", "output"))
    with pytest.raises(UnsupportedError, match="not at every step by fc"):
        import_nir(path, profile="generic", steps=T)


def test_threshold_keeps_nothing(tmp_path):
    made = network(tmp_path / "a.nir", {"type": "Threshold", "threshold": np.linspace(0.1, 1.3, 7)})
    x = inputs(5)
    want = x @ W.T > np.linspace(0.1, 1.3, 7)
    assert np.array_equal(steps_of(made, x).values["node"].numpy(), want)


PLANE = (2, 6, 5)
KERNEL = RNG.integers(-3, 4, (3, 2, 3, 2)) / 4.0
CONV = {"stride": np.array([2, 1]), "padding": np.array([1, 0]), "dilation": np.array([1, 2]), "groups": 1}
MAPS = {
    "Conv2d": (
        {"type": "Conv2d", "weight": KERNEL, "bias": np.ones(3), **CONV},
        PLANE,
        lambda x: torch.conv2d(x, torch.tensor(KERNEL), torch.ones(3).double(), (2, 1), (1, 0), (1, 2)),
    ),
    "Conv2d, groups, same": (
        {
            "type": "Conv2d",
            "weight": KERNEL[:2, :1, :, :1],
            "bias": np.zeros(2),
            "stride": 1,
            "padding": "same",
            "dilation": 1,
            "groups": 2,
        },
        PLANE,
        lambda x: torch.conv2d(x, torch.tensor(KERNEL[:2, :1, :, :1]), None, 1, (1, 0), 1, 2),
    ),
    "Conv1d": (
        {
            "type": "Conv1d",
            "weight": KERNEL[:, :, :, 0],
            "bias": np.zeros(3),
            "stride": 2,
            "padding": 1,
            "dilation": 1,
            "groups": 1,
        },
        (2, 9),
        lambda x: torch.conv1d(x, torch.tensor(KERNEL[:, :, :, 0]), None, 2, 1),
    ),
    "SumPool2d": (
        {"type": "SumPool2d", "kernel_size": np.array([2, 2]), "stride": np.array([2, 1]), "padding": np.array([0, 0])},
        PLANE,
        lambda x: 4 * torch.nn.functional.avg_pool2d(x, 2, (2, 1)),
    ),
    "AvgPool2d": (
        {"type": "AvgPool2d", "kernel_size": 2, "stride": 2, "padding": 1},
        PLANE,
        lambda x: torch.nn.functional.avg_pool2d(x, 2, 2, 1),
    ),
    "Flatten": (
        {"type": "Flatten", "start_dim": 0, "end_dim": -1, "input_type": np.array(PLANE)},
        PLANE,
        lambda x: x.flatten(1),
    ),
    "Scale": (
        {"type": "Scale", "scale": np.array([0.5, -2.0])[:, None, None]},
        PLANE,
        lambda x: x * torch.tensor([0.5, -2.0])[:, None, None],
    ),
    "Affine": (
        linear(W, np.linspace(-1, 1, 7)),
        (5,),
        lambda x: x @ torch.tensor(W.T) + torch.linspace(-1, 1, 7).double(),
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps(tmp_path, name):
    node, shape, rule = MAPS[name]
    x = inputs(*shape)
    want = rule(torch.tensor(x).flatten(0, 1)).unflatten(0, x.shape[:2])
    neurons = neuron("IF", *want.shape[2:], r=1e4, v_threshold=1.0, v_reset=0.0)
    made = network(tmp_path / "a.nir", neurons, shape=shape, before=node, out=want.shape[2:])
    got = steps_of(made, x).values["map"]
    assert torch.allclose(got.reshape(want.shape), want.to(got), atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, T])
def test_delay(tmp_path, count):
    nodes = {
        "input": given(5),
        "map": linear(W),
        "a": lif(7),
        "late": {"type": "Delay", "delay": np.full(7, count * DT)},
        "fc": linear(W.T),
        "b": lif(5),
        "output": read(5),
    }
    path = write(tmp_path / "a.nir", nodes, chain("input", "map", "a", "late", "fc", "b", "output"))
    made = import_nir(path, profile="snntorch", steps=T)
    x = inputs(5)
    run = steps_of(made, x)
    late = run.values["late"].numpy()
    assert not late[:count].any()
    assert np.array_equal(late[count:], run.values["a"].numpy()[: T - count])
    program = compile_float_graph(run_passes(made), x, weights="int8", time_axis=True)
    assert {edge.delay for edge in program.edges} == {0, count}


@pytest.mark.parametrize(("profile", "first"), [("snntorch", True), ("spikingjelly", False)])
@pytest.mark.parametrize("kind", [lif, cuba])
def test_recurrence_is_a_step_late_and_its_bias_by_profile(tmp_path, profile, first, kind):
    """Subgraphs keep their names; W s(t-1) + b, with b from the first or the second step on."""
    rng = np.random.default_rng(31)  # its own: the comparison must not hang on which tests ran before
    back, bias = rng.integers(-8, 9, (7, 7)) / 8.0, np.linspace(-0.5, 0.75, 7)
    inner = {"input": given(7), "lif": kind(7), "w_rec": linear(back, bias), "output": read(7)}
    loop = graph(inner, [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")])
    nodes = {"input": given(5), "map": linear(W), "rec": loop, "output": read(7)}
    path = write(tmp_path / "a.nir", nodes, chain("input", "map", "rec", "output"))
    made = import_nir(path, profile=profile, steps=T)
    x = 0.97 * inputs(5)  # no potential is the threshold itself, where the last bit would decide
    v, u, s, last = (np.zeros((12, 7)) for _ in range(4))
    want = []
    for t, step in enumerate(x @ W.T):
        given_back = s @ back.T + (bias if first or t else 0.0)
        u = (0.5 * u if kind is cuba else 0.0) + step + given_back
        v = 0.75 * v + u
        if profile == "snntorch":
            v = v - last
            s = (v > 1.0).astype(float)
            last = s
        else:
            s = (v >= 1.0).astype(float)
            v = np.where(s > 0, 0.0, v)
        want.append(s)
    got = steps_of(made, x).values["rec.lif"].numpy()
    assert 0.05 < np.mean(want) < 0.95
    assert (got != np.array(want)).mean() < 2e-3  # tau of 2e-4 in float32 is no exact half
    assert made.layer("rec.lif").feedback.path == "rec.w_rec"


def test_two_edges_are_a_sum(tmp_path):
    nodes = {"input": given(5), "a": linear(W), "b": linear(-2 * W[::-1]), "lif": lif(7), "output": read(7)}
    edges = [("input", "a"), ("input", "b"), ("a", "lif"), ("b", "lif"), ("lif", "output")]
    made = import_nir(write(tmp_path / "a.nir", nodes, edges), profile="snntorch", steps=T)
    x = inputs(5)
    got = steps_of(made, x).values["lif.sum"].numpy()
    assert np.allclose(got, x @ W.T - 2 * x @ W[::-1].T, atol=1e-6)


def test_rockpool_s_step_follows_from_r():
    from snn2chip.frontends.nir_file import NirNode
    from snn2chip.frontends.nir_neurons import soma_of
    from snn2chip.frontends.nir_profiles import profile_of

    dt, tau, syn = 1e-3, 2e-2, 1e-2
    values = {"tau_mem": tau, "tau_syn": syn, "r": tau * np.exp(-dt / tau) / dt, "v_leak": 0.0, "v_threshold": 1.0}
    node = NirNode(name="n", kind="CubaLIF", fields={k: np.full(3, v) for k, v in values.items()})
    soma = soma_of(node, (3,), profile_of("rockpool"), steps=4)
    assert float(soma.leak) == pytest.approx(np.exp(-dt / tau), rel=1e-9)
    assert float(soma.syn_leak) == pytest.approx(np.exp(-dt / syn), rel=1e-9)
    assert float(soma.gain) == pytest.approx(np.exp(-dt / syn), rel=1e-9)
    assert soma.levels == 15


def by_equation(x, *, keep_syn, keep, levels, compare_at_least, subtract):
    """One population from the profile's equation, in float64: `u = keep_syn (u + x)` or `x`, `v = keep v + u`."""
    u, v, out = np.zeros(x.shape[1:]), np.zeros(x.shape[1:]), []
    for now in x:
        u = keep_syn * (u + now) if keep_syn else now
        v = keep * v + u
        fires = v >= 1.0 if compare_at_least else v > 1.0
        n = np.where(fires, np.minimum(np.floor(v), levels), 0)
        v = v - n if subtract else np.where(fires, 0.0, v)
        out.append(n)
    return np.array(out)


def test_rockpool_and_lava_dl_spikes_from_the_equation(tmp_path):
    """No fixtures of theirs: their profiles against their equations, every spike of every step."""
    dt = 2.0**-10
    tau, syn = 4 * dt, 2 * dt
    x = inputs(5)
    current = x @ W.T
    values = {"tau_mem": tau, "tau_syn": syn, "r": tau * np.exp(-dt / tau) / dt, "w_in": 1.0, "v_threshold": 1.0}
    rock = {"type": "CubaLIF", **{k: np.full(7, v) for k, v in {**values, "v_leak": 0.0, "v_reset": 0.0}.items()}}
    lava = lif(7, tau=4e-4, r=4.0)
    for name, node, how in (
        ("rockpool", rock, {"keep_syn": np.exp(-0.5), "keep": np.exp(-0.25), "levels": 15, "subtract": True}),
        ("lava-dl", lava, {"keep_syn": 0.0, "keep": 0.75, "levels": 1, "subtract": False}),
    ):
        nodes = {"input": given(5), "fc": linear(W), "n": node, "output": read(7)}
        made = import_nir(write(tmp_path / "a.nir", nodes, chain("input", "fc", "n", "output")), profile=name, steps=T)
        got = steps_of(made, x).values["n"].numpy()
        want = by_equation(current, compare_at_least=True, **how)
        assert got.shape == want.shape
        assert (got != want).mean() < 2e-3
        assert want.any()
        assert want.max() > 1 or name == "lava-dl"


def rockpool(path, *, dt=(1e-3, 1e-3), shape=(1, 100, 5), delay=None):
    """Two layers as rockpool writes them: batch and time in front of the shapes, r and tau by neuron."""
    layers = []
    for step, count in zip(dt, (7, 5), strict=True):
        tau, values = 4 * step, {"tau_syn": 2 * step, "v_leak": 0.0, "v_threshold": 1.0}
        values |= {"tau_mem": tau, "r": tau * np.exp(-step / tau) / step}
        layers.append({"type": "CubaLIF", **{k: np.full(count, v, np.float32) for k, v in values.items()}})
    nodes = {"input": given(*shape), "0": linear(W), "1": layers[0], "2": linear(W.T), "3": layers[1]}
    names = ["input", "0", "1", "2", "3", "output"]
    if delay is not None:
        nodes["late"] = {"type": "Delay", "delay": np.full(7, delay)}
        names.insert(3, "late")
    nodes["output"] = read(*shape[:-1], 5)
    return write(path, nodes, chain(*names))


@pytest.mark.parametrize("shape", [(5,), (1, 5), (1, 100, 5)])
def test_rockpool_s_shapes_hold_batch_and_time(tmp_path, shape):
    made = import_nir(rockpool(tmp_path / "a.nir", shape=shape), profile="rockpool", steps=T)
    assert made.input.shape == made.shapes["output"] == (5,)
    texts = [note.text for note in made.notes]
    assert ("input: shape [1, 100, 5] holds batch or time, read as [5]" in texts) == (len(shape) == 3)
    assert "dt = 0.001 follows from r and tau" in texts
    x = inputs(5)
    want = by_equation(x @ W.T, keep_syn=np.exp(-0.5), keep=np.exp(-0.25), levels=15, compare_at_least=True,
                       subtract=True)  # fmt: skip
    assert (steps_of(made, x).values["1"].numpy() != want).mean() < 2e-3
    program = compile_float_graph(run_passes(made), x, weights="int8", time_axis=True)
    assert program.inputs[0].raw_shape == (5,)


def test_rockpool_s_delays_are_counted_in_its_own_steps(tmp_path):
    made = import_nir(rockpool(tmp_path / "a.nir", delay=3e-3), profile="rockpool", steps=T)
    run = steps_of(made, inputs(5))
    assert np.array_equal(run.values["late"].numpy()[3:], run.values["1"].numpy()[:-3])
    assert run.values["1"].numpy()[:-3].any()
    path = rockpool(tmp_path / "b.nir", delay=2.5e-3)
    with pytest.raises(InputError, match=r"0\.0025 is no whole number of steps of dt = 0\.001"):
        import_nir(path, profile="rockpool", steps=T)
    bare = {"input": given(5), "late": {"type": "Delay", "delay": np.full(5, 1e-3)}, "output": read(5)}
    path = write(tmp_path / "c.nir", bare, chain("input", "late", "output"))
    with pytest.raises(InputError, match="no neuron tells the time step"):
        import_nir(path, profile="rockpool", steps=T)


def test_rockpool_s_layers_have_one_time_step(tmp_path):
    path = rockpool(tmp_path / "a.nir", dt=(1e-3, 2e-3))
    with pytest.raises(InputError, match=r"rockpool writes .* at dt = 0\.0015"):
        import_nir(path, profile="rockpool", steps=T)


def test_batch_and_time_are_rockpool_s_alone(tmp_path):
    with pytest.raises(InputError, match="by its last axis"):
        import_nir(rockpool(tmp_path / "a.nir"), profile="lava-dl", steps=T)
