"""What a small `.net` file becomes: neuron registers, inputs, resets, read-outs; numbers by equation."""

from __future__ import annotations

import numpy as np
import pytest

import snn2chip
from snn2chip.errors import InputError
from snn2chip.frontends.netx import import_netx, netx_input
from snn2chip.ir.nodes import Input, Synapse
from snn2chip.ir.types import NEVER

NEVER_FIRES = 1 << 17


def run(program, x):
    return snn2chip.run(program, np.asarray(x), backend="reference")


def events(*steps):
    """Spikes [T, 1, N] from one row per step."""
    return np.array(steps)[:, None]


def cuba(currents, *, i_decay, v_decay, v_th, bias=0):
    """The published neuron on plain Python integers: (u, v, spikes) of one neuron."""
    u = v = 0
    rows = []
    for a in currents:
        u = int(u * (4096 - i_decay) / 4096) + (a << 6)
        v = int(v * (4096 - v_decay) / 4096) + u + (bias << 6)
        s = v > (v_th << 6)
        v = 0 if s else v
        rows.append((u, v, int(s)))
    return rows


CURRENTS = [20, -7, 35, 0, 31, -50, 0, 60]
LINES = [20, -7, 35, 31, -50, 60]
ONE_LINE_PER_STEP = [[int(a == c) for c in LINES] for a in CURRENTS]


def test_synaptic_current_follows_the_published_vector(net, files):
    """du = 409 of the chip's test vector is iDecay = 410; with vDecay = 4096 the potential shows u itself."""
    u = [1280, 703, 2872, 2584, 4309, 677, 609, 4388]
    layer = files.dense([LINES], neuron=files.neuron(iDecay=410, vDecay=4096, vThMant=NEVER_FIRES))
    trace = run(import_netx(net(layer), steps=8), events(*ONE_LINE_PER_STEP))
    assert trace.potentials["layer0"].ravel().tolist() == u
    assert trace.outputs.tolist() == [[u[-1]]]


@pytest.mark.parametrize(("v_th", "bias"), [(40, 0), (40, -3), (25, 7), (67, 2)])
def test_neuron_equals_the_equations(net, files, v_th, bias):
    layer = files.dense(
        [LINES], bias=np.array([float(bias)]), neuron=files.neuron(iDecay=410, vDecay=128, vThMant=v_th)
    )
    trace = run(import_netx(net(layer), steps=8), events(*ONE_LINE_PER_STEP))
    want = cuba(CURRENTS, i_decay=410, v_decay=128, v_th=v_th, bias=bias)
    assert trace.potentials["layer0"].ravel().tolist() == [v for _, v, _ in want]
    assert trace.payloads["layer0"].ravel().tolist() == [s for _, _, s in want]
    assert any(s for _, _, s in want)


def test_threshold_is_strict(net, files):
    """v = 64 * 5 does not exceed vThMant = 5, v = 64 * 6 does."""
    layer = files.dense([[5, 6]], neuron=files.neuron(iDecay=4096, vDecay=4096, vThMant=5))
    trace = run(import_netx(net(layer), steps=2), events([1, 0], [0, 1]))
    assert trace.payloads["layer0"].ravel().tolist() == [0, 1]


def test_registers_of_a_dense_layer(net, files):
    program = import_netx(net(files.dense([[3, -2], [1, 0]], bias=np.array([2, -5]))), steps=4)
    soma = program["layer0"]
    assert (soma.syn_leak.item(), soma.leak.item(), soma.gain.item(), soma.theta.item()) == (3072, 3968, 64, 5121)
    assert soma.bias.tolist() == [[128, -320]]
    assert (soma.reset, soma.fire, soma.layer) == ("zero", "levels", "/layer/0")
    assert program["layer0.weight"].weight.tolist() == [[3, -2], [1, 0]]


def test_one_threshold_and_decay_per_channel(net, files):
    dense = files.dense(np.eye(2) * 9, neuron=files.neuron(vThMant=np.array([3, 8]), iDecay=np.array([0, 4096])))
    soma = import_netx(net(dense), steps=4, reset_interval=2)["layer0"]
    assert soma.theta.tolist() == [[193, 513]]
    assert soma.syn_leak.tolist() == [[0, 0], [4096, 0], [0, 0], [4096, 0]]
    conv = files.conv(np.ones((2, 1, 1, 1)), (2, 3, 3), neuron=files.neuron(vThMant=np.array([3, 8])))
    soma = import_netx(net(files.inputs((1, 3, 3)), conv), steps=1)["layer1"]
    assert soma.at("theta").shape == (2, 1, 1)


def test_layer_without_neuron_is_a_read_out(net, files):
    """u integrates without leak, v = u + 64 bias, never a spike: the sum of all currents is what one reads."""
    program = import_netx(net(files.dense([[3, -2], [100, 1]], neuron=None, bias=np.array([1, 0]))), steps=3)
    trace = run(program, events([1, 1], [0, 1], [1, 0]))
    assert trace.outputs.tolist() == [[64 * (3 - 2 - 2 + 3) + 64, 64 * (101 + 1 + 100)]]
    assert program["layer0"].fire == "none"
    assert program["layer0"].theta.item() == NEVER
    assert program["out"].read == "potential"


def test_last_layer_is_read_by_count_unless_its_threshold_is_out_of_reach(net, files):
    """vThMant = 131071 is within 64 of the largest potential: only a bound over the sample shows that it is silent."""
    silent = files.dense([[127, 100]], neuron=files.neuron(iDecay=4096, vDecay=0, vThMant=131071))
    few = 131071 // 227
    assert import_netx(net(silent), steps=few)["out"].read == "potential"
    assert import_netx(net(silent), steps=few + 1)["out"].read == "count"
    assert import_netx(net(files.dense([[3, 4]])), steps=4)["out"].read == "count"


def test_input_neurons_take_bias_mantissas(net, files):
    """The input neuron integrates 64 * mantissa; the transform of the file is trunc(weight * x + bias)."""
    layer = files.inputs((2, 1, 2), weight=np.array([36.0]), bias=np.array([34.0]), neuron=files.neuron(vDecay=0))
    program = import_netx(net(layer, name="bias.net"), steps=3)
    assert isinstance(program["input"], Input)
    assert program["input"].coding == "repeat"
    x = np.array([[[[0.0, 0.99]], [[-1.0, 0.5]]]])
    mantissas = netx_input(program, x)
    assert mantissas.tolist() == [[[[34, 69]], [[-2, 52]]]]
    trace = run(program, mantissas)
    v = trace.potentials["layer0"][:, 0, :, 0]
    assert v[0].tolist() == [[64 * 34, 64 * 69], [-128, 64 * 52]]
    assert trace.payloads["layer0"][:, 0, :, 0].tolist() == [[[0, 0], [0, 0]], [[0, 1], [0, 1]], [[1, 0], [0, 0]]]
    assert v[2].tolist() == [[0, 64 * 69], [-3 * 128, 64 * 52]]


def test_netx_input_needs_an_input_neuron(net, files):
    with pytest.raises(InputError, match="takes spikes"):
        netx_input(import_netx(net(files.dense([[1, 2]])), steps=1), np.zeros((1, 2)))


def test_dense_after_an_input_without_neuron_takes_flat_spikes(net, files):
    program = import_netx(net(files.inputs((1, 1, 3)), files.flatten(), files.dense([[1, 2, 3]])), steps=4)
    assert program["input"].shape == (3,)
    assert (program["input"].lo, program["input"].hi, program["input"].coding) == (0, 1, "steps")


def test_reset_interval_clears_u_and_v_inside_a_sample(net, files):
    """Six steps with a reset every three equal two samples of three steps, in every neuron and step."""
    rng = np.random.default_rng(1)
    layers = [files.dense(rng.integers(-99, 100, (5, 4)), bias=rng.integers(-9, 40, 5)), files.dense(np.eye(5) * 90)]
    x = rng.integers(0, 2, (6, 1, 4))
    whole = run(import_netx(net(*layers), steps=6, reset_interval=3), x)
    parts = run(import_netx(net(*layers), steps=3), np.concatenate([x[:3], x[3:]], axis=1))
    free = run(import_netx(net(*layers), steps=6), x)
    for soma in ("layer0", "layer1"):
        for field in ("payloads", "potentials"):
            got, want = getattr(whole, field)[soma][:, 0], getattr(parts, field)[soma]
            assert (got == np.concatenate([want[:, 0], want[:, 1]])).all()
    assert (free.potentials["layer0"] != whole.potentials["layer0"]).any()


def test_steps_default_to_the_files_sample_length(net, files):
    assert import_netx(net(files.dense([[1]]), sample=7)).steps == 7
    with pytest.raises(InputError, match="pass steps="):
        import_netx(net(files.dense([[1]]), sample=None))


def test_parts_of_a_description(net, files):
    """num_layers and skip_layers count entries of the file, as in NetX; a skipped layer still gives its shape."""
    path = net(
        files.inputs((1, 4, 4)),
        files.conv(np.ones((2, 1, 3, 3)), (2, 2, 2)),
        files.flatten(),
        files.dense(np.ones((3, 8))),
    )
    assert [s.name for s in import_netx(path, num_layers=2).somas] == ["layer1"]
    rest = import_netx(path, skip_layers=2)
    assert [s.name for s in rest.somas] == ["layer3"]
    assert rest["input"].shape == (8,)


def test_more_than_ten_layers_come_in_the_order_of_their_numbers(net, files):
    layers = [files.dense(np.ones((n + 2, n + 1))) for n in range(12)]
    program = import_netx(net(*layers))
    assert [soma.name for soma in program.somas] == [f"layer{i}" for i in range(12)]


def test_graded_input_range(net, files):
    program = import_netx(net(files.dense([[1, 2]])), input_range=(-128, 127))
    assert (program["input"].lo, program["input"].hi) == (-128, 127)


def test_program_survives_a_round_trip(net, files, tmp_path):
    layers = [files.dense([[200, -3], [7, 254]], delay=np.array([0, 2])), files.dense([[250, 3]], neuron=None)]
    program = import_netx(net(*layers), steps=5)
    program.save(tmp_path / "small.s2c")
    again = snn2chip.load(tmp_path / "small.s2c")
    assert again.digest() == program.digest()
    assert again.meta["source"] == "netx"
    assert [n.name for n in again.nodes if isinstance(n, Synapse)] == [
        "layer0.weight.plus.d0",
        "layer0.weight.plus.d2",
        "layer0.weight.minus.d0",
        "layer1.weight",
    ]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"steps": 0}, "steps must be"),
        ({"steps": 2, "reset_interval": -1}, "reset_interval must be"),
        ({"steps": 2, "skip_layers": -1}, "skip_layers must be"),
        ({"steps": 2, "numbers": "lava"}, "numbers must be one of netx, file"),
        ({"steps": 2, "ignore": ("theta",)}, "has no field 'theta' to ignore; known: delay, refDelay"),
        ({"steps": 2, "input_range": (1, 2)}, "input_range must contain 0"),
        ({"steps": 2, "skip_layers": 5}, "no layer with neurons"),
    ],
)
def test_options_are_checked(net, files, options, text):
    with pytest.raises(InputError, match=text):
        import_netx(net(files.dense([[1]])), **options)
