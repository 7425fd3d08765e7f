"""Outside truth: the networks and recordings that lava-dl ships with its own tests, reproduced bit for bit.

The recordings are in machine time or one step late; a program is in logical time. `column = step + offset` aligns
them: +1 for tiny.net (its recordings begin with an empty step), +k for layer k of PilotNet (recorded on the chip,
where every layer starts one machine step later), +4 for N-TIDIGITS (three synapses and one more step of the recorder),
0 for sigma-delta networks, which are read in machine time.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from snn2chip_backends.reference.backend import synapse_current

import snn2chip
from snn2chip.checks.inside import inside
from snn2chip.checks.usable import usable_backends
from snn2chip.frontends.netx import import_netx, netx_input
from snn2chip.interop.netx import export_netx
from snn2chip.registry import get_backend


def whct(path: Path):
    """A `[W, H, C, T]` or `[N, T]` recording as integers `[T, C, H, W]` or `[T, N]`."""
    array = np.load(path).astype(np.int64)
    return array.transpose(range(array.ndim)[::-1])


BACKENDS = ("reference", "torch")


# ---- tiny.net: input neurons and two convolutions, 16 steps


@pytest.fixture(scope="module", params=BACKENDS)
def tiny(shipped, request):
    program = import_netx(shipped / "tiny.net", steps=16)
    bias = np.load(shipped / "gts/tinynet/input_bias.npy").astype(int).transpose(2, 1, 0)[None]
    return program, snn2chip.run(program, bias, backend=request.param)


@pytest.mark.parametrize(("soma", "file"), [("layer0", "input"), ("layer1", "layer1"), ("layer2", "output")])
def test_tiny_spikes(shipped, tiny, soma, file):
    """Step t equals column t + 1 in every layer; column 0 is empty, so the sixteenth step has no counterpart."""
    truth = np.load(shipped / f"gts/tinynet/{file}.npy")[0].transpose(3, 0, 1, 2)
    assert not truth[0].any()
    assert (tiny[1].payloads[soma][:15, 0] == truth[1:]).all()
    assert truth[1:].sum() == {"layer0": 6783, "layer1": 1633, "layer2": 92}[soma]


def test_tiny_currents(shipped, tiny):
    """The recorded current of the first convolution, bias apart, is the synapse's."""
    program, trace = tiny
    truth = np.load(shipped / "gts/tinynet/current.npy")[0].transpose(3, 0, 1, 2)
    current = synapse_current(program["layer1.weight"], trace.payloads["layer0"][:15, 0].astype(np.int64))
    assert (current == truth[1:]).all()
    assert (truth[1:].min(), truth[1:].max()) == (-100, 88)
    bias = np.load(shipped / "gts/tinynet/layer1_bias.npy")
    assert program["layer1"].bias.tolist() == [(64 * bias).tolist()]


# ---- PilotNet: input neurons, five convolutions, four dense layers, recorded on Loihi with 24 machine steps

LAYERS = ["input", *(f"conv-{i}" for i in range(5)), *(f"fc-{i}" for i in range(4))]
SOMAS = [f"layer{i}" for i in (0, 1, 2, 3, 4, 5, 7, 8, 9, 10)]
REFRACTORY = 128
"""What the chip's voltage register shows in the step of a spike, where the models show the reset potential 0."""


@pytest.fixture(scope="module", params=BACKENDS)
def pilotnet(shipped, request):
    """24 steps with the state cleared every 17: the recording of a constant image repeats after 17 steps, not 16."""
    folder = shipped / "gts/pilotnet_lif"
    program = import_netx(folder / "network.net", steps=24, reset_interval=17)
    image = np.load(folder / "image.npy").transpose(2, 1, 0)[None]
    return program, snn2chip.run(program, image, backend=request.param)


@pytest.mark.parametrize("k", range(9), ids=LAYERS[:9])
def test_pilotnet_spikes(shipped, pilotnet, k):
    """Every spike of every layer but the last, in every column after the pipeline has filled; some in each layer."""
    truth = whct(shipped / f"gts/pilotnet_lif/{LAYERS[k]}.npy")
    assert (pilotnet[1].payloads[SOMAS[k]][: 24 - k, 0] == truth[k:]).all()
    assert truth[k:].any()


@pytest.mark.parametrize("k", range(1, 9), ids=LAYERS[1:9])
def test_pilotnet_potentials(shipped, pilotnet, k):
    """Every potential, except that a neuron that spiked shows 128 (a refractory code) on the chip and 0 here."""
    truth = whct(shipped / f"gts/pilotnet_lif/{LAYERS[k]}-v.npy")[k:]
    spiked = pilotnet[1].payloads[SOMAS[k]][: 24 - k, 0] != 0
    ours = pilotnet[1].potentials[SOMAS[k]][: 24 - k, 0]
    assert (np.where(spiked, REFRACTORY, ours) == truth).all()
    assert (ours[spiked] == 0).all()


@pytest.mark.parametrize("k", range(1, 9), ids=LAYERS[1:9])
def test_pilotnet_currents(shipped, pilotnet, k):
    """u = 64 W s, for iDecay = 4096 leaves nothing of the last step."""
    program, trace = pilotnet
    truth = whct(shipped / f"gts/pilotnet_lif/{LAYERS[k]}-u.npy")[k:]
    assert program[SOMAS[k]].syn_leak.max() == 0
    sent = trace.payloads[SOMAS[k - 1]][: 24 - k, 0].astype(np.int64)
    synapse = program[program.into[SOMAS[k]][0].src]
    assert (64 * synapse_current(synapse, sent) == truth).all()


def test_pilotnet_wrong_reset_is_seen(shipped, pilotnet):
    """The comparison can fail: cleared every 16 steps, the same network leaves the recording at column 17 + k."""
    folder = shipped / "gts/pilotnet_lif"
    program = import_netx(folder / "network.net", steps=24, reset_interval=16, num_layers=3)
    trace = snn2chip.run(program, np.load(folder / "image.npy").transpose(2, 1, 0)[None], backend="torch")
    truth = whct(folder / "conv-1.npy")[2:]
    differs = [bool((trace.payloads["layer2"][t, 0] != truth[t]).any()) for t in range(22)]
    assert differs == [t > 15 for t in range(22)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_pilotnet_read_out(shipped, backend):
    """fc-3 was recorded in another run: 25 columns, cleared every 16 steps but one step before each frame arrives.

    That is NetX's default for a network that starts with a synapse. So its frame 0 stands at the second step of the
    sample, after an empty one; column = step + 8 (eight synapses before fc-3), and columns 0..7 are pipeline fill.
    """
    folder = shipped / "gts/pilotnet_lif"
    program = import_netx(folder / "network.net", steps=17, skip_layers=1, reset_interval=16)
    spikes = whct(folder / "input.npy")[:16, None]
    trace = snn2chip.run(program, np.concatenate([np.zeros_like(spikes[:1]), spikes]), backend=backend)
    v, u = whct(folder / "fc-3-v.npy"), whct(folder / "fc-3-u.npy")
    assert program["layer10"].fire == "none"
    assert not np.load(folder / "fc-3-s.npy").any()
    assert (trace.potentials["layer10"][:, 0] == v[8:]).all()
    sent = trace.payloads["layer9"][:, 0].astype(np.int64)
    assert (64 * synapse_current(program["layer10.weight"], sent) == u[8:]).all()
    assert (np.unique(v[8:]) == [-5376, -4736, 0]).all()


# ---- N-TIDIGITS: three dense layers with axonal delays up to 62, 3000 steps


def ntidigits(shipped, steps, backend):
    folder = shipped / "gts/ntidigits"
    program = import_netx(folder / "ntidigits.net", steps=steps, num_layers=5)
    x = np.load(folder / "input.npy").astype(int).T[:steps, None]
    trace = snn2chip.run(program, x, backend=backend)
    return trace.payloads["layer4"][:, 0], np.load(folder / "output.npy").T[:steps]


def test_ntidigits_all_spikes(shipped):
    """All 22,572 spikes of 242 neurons in 3000 steps, and no other."""
    ours, truth = ntidigits(shipped, 3000, "torch")
    assert (ours[:-4] == truth[4:]).all()
    assert not truth[:4].any()
    assert truth.sum() == 22572


def test_ntidigits_on_the_reference(shipped):
    """The first 400 steps on the slow definition itself."""
    ours, truth = ntidigits(shipped, 400, "reference")
    assert (ours[:-4] == truth[4:]).all()
    assert truth.sum() > 5000


@pytest.mark.slow
def test_ntidigits_on_the_reference_to_the_end(shipped):
    ours, truth = ntidigits(shipped, 3000, "reference")
    assert (ours[:-4] == truth[4:]).all()


def test_ntidigits_whole_file(shipped):
    """With its averaging layer, which NetX cannot build: the sums of 22 neurons each over all steps, for 11 classes."""
    folder = shipped / "gts/ntidigits"
    program = import_netx(folder / "ntidigits.net", steps=400)
    trace = snn2chip.run(program, np.load(folder / "input.npy").astype(int).T[:400, None], backend="torch")
    truth = np.load(folder / "output.npy").T.astype(int)[4:404].reshape(400, 11, 22).sum(2)
    assert (trace.potentials["layer5"][:, 0] == truth.cumsum(0)).all()
    assert (trace.outputs[0] == truth.sum(0)).all()
    assert len(set(truth.sum(0))) > 3


def test_ntidigits_without_delays_is_another_network(shipped):
    """The comparison can fail: the same file with one delay changed by a step no longer matches."""
    folder = shipped / "gts/ntidigits"
    program = import_netx(folder / "ntidigits.net", steps=400, num_layers=5)
    edges = [e._replace(delay=e.delay + 1) if e.dst == "layer2.weight.d5" else e for e in program.edges]
    changed = type(program)(nodes=program.nodes, edges=edges, steps=400)
    x = np.load(folder / "input.npy").astype(int).T[:400, None]
    ours = snn2chip.run(changed, x, backend="torch").payloads["layer4"][:, 0]
    assert (ours[:-4] != np.load(folder / "output.npy").T[4:400]).any()


# ---- mnist.net: no recording is shipped, but the network was trained for a task


@pytest.mark.data
def test_mnist_network_reads_digits(shipped):
    """Trained on pixels in -1..1: 2000 test images, read-out by the potential of the neuronless last layer."""
    folder = os.environ.get("SNN2CHIP_DATA")
    if not folder or not (path := Path(folder) / "mnist.npz").is_file():
        pytest.skip("SNN2CHIP_DATA does not name a folder with mnist.npz")
    program = import_netx(shipped / "mnist.net")
    assert (program.steps, program["out"].read) == (16, "potential")
    with np.load(path) as data:
        images, labels = data["x_test"][:2000].reshape(2000, 784), data["y_test"][:2000]
    trace = snn2chip.run(program, netx_input(program, images / 127.5 - 1), backend="torch", record="outputs")
    assert (trace.pred == labels).mean() > 0.97


# ---- PilotNet with sigma-delta neurons: an encoder, five convolutions, three dense layers, a sum; in machine time

FRAMES = (-(1 << 15), (1 << 15) - 1)


def sigmas(program, trace, name):
    """What a sigma-delta soma has added up, `[T, C, H, W]` of the first sample."""
    return inside(program, trace, program[name]).synaptic[:, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_sigma_delta_pilotnet_output(shipped, backend):
    """Nine machine steps of a constant image; the last one is the first that has seen it through all layers."""
    folder = shipped / "gts/pilotnet_sdnn"
    program = import_netx(folder / "network.net", steps=9)
    image = np.load(folder / "input.npy").astype(int).transpose(3, 2, 1, 0)
    trace = snn2chip.run(program, image.repeat(9, axis=0)[:, None], backend=backend, time_axis=True)
    truth = np.load(folder / "output.npy").astype(int)
    assert trace.potentials["layer9"][:, 0, 0].tolist() == truth[0].tolist()
    assert len(set(truth[0].tolist())) == 8


@pytest.mark.parametrize("backend", BACKENDS)
def test_sigma_delta_encoder(shipped, backend):
    """The first layer alone: `act0` is what it sends for the image in the first step and nothing afterwards."""
    folder = shipped / "gts/pilotnet_sdnn"
    program = import_netx(folder / "network.net", steps=20, num_layers=1)
    image = np.load(folder / "input.npy").astype(int).transpose(3, 2, 1, 0)
    trace = snn2chip.run(program, image.repeat(20, axis=0)[:, None], backend=backend, time_axis=True)
    truth = whct(folder / "act0.npy")
    assert (trace.payloads["layer0"][:, 0] == truth).all()
    assert (truth != 0).sum() == 9656


@pytest.mark.parametrize(
    ("file", "size", "names"),
    [("network", 100, ("sigma1", "sigma2")), ("square_network", 33, [f"sigma{k}_square" for k in range(1, 5)])],
)
def test_sigma_delta_sums_of_the_chip(shipped, file, size, names):
    """Every sum of the first layers in 20 steps, recorded on Loihi, fed with what the encoder sends."""
    folder = shipped / "gts/pilotnet_sdnn"
    shape = (3, 33, size)
    options = {"skip_layers": 1, "num_layers": 1 + len(names), "input_shape": shape, "input_range": FRAMES}
    program = import_netx(folder / f"{file}.net", steps=20, **options)
    sent = whct(folder / "act0.npy")[:, :, :, :size]
    trace = snn2chip.run(program, sent[:, None], backend="torch", time_axis=True)
    for k, name in enumerate(names, start=1):
        truth = whct(folder / f"{name}.npy")
        assert (sigmas(program, trace, f"layer{k}") == truth).all(), name
        assert (truth[1:] != truth[:-1]).any()


def test_sigma_delta_pilotnet_is_written_again_the_same(shipped, tmp_path):
    """Exported and read back it is the same program to the last integer."""
    program = import_netx(shipped / "gts/pilotnet_sdnn/network.net", steps=9)
    export_netx(program, tmp_path / "again.net")
    assert import_netx(tmp_path / "again.net", steps=9).digest() == program.digest()


def test_sigma_delta_without_machine_time_is_another_network(shipped):
    """What biases send ahead of the first image is floored on its own: leaving that out gives other sums."""
    folder = shipped / "gts/pilotnet_sdnn"
    program = import_netx(folder / "network.net", steps=1, pipelined=False)
    image = np.load(folder / "input.npy").astype(int).transpose(3, 2, 1, 0)
    trace = snn2chip.run(program, image[:, None], backend="torch", time_axis=True)
    assert trace.potentials["layer9"].item() != np.load(folder / "output.npy")[0, 8]


# ---- the small sigma-delta network, shipped as arrays for each of its blocks


@pytest.fixture(scope="module")
def write_net():
    """The tests' own writer of `.net` files."""
    path = Path(__file__).resolve().parents[1] / "unit" / "netx" / "netx_files.py"
    spec = importlib.util.spec_from_file_location("netx_files_of_truths", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("backend", BACKENDS)
def test_tinynet_sdnn_encoder(shipped, write_net, tmp_path, backend):
    """A moving image of 15 steps, in and out."""
    folder = shipped / "gts/tinynet_sdnn"
    path = write_net.write_net(tmp_path / "a.net", [write_net.inputs((3, 16, 16), neuron=write_net.delta(20))])
    wave = np.sin(2 * np.pi * np.arange(15) / 15)
    x = (np.load(folder / "input_bias.npy")[..., None] * wave).astype(int).transpose(3, 2, 1, 0)
    trace = snn2chip.run(import_netx(path, steps=15), x[:, None], backend=backend, time_axis=True)
    truth = whct(folder / "input.npy")
    assert (trace.payloads["layer0"][:, 0] == truth).all()
    assert len(np.unique(truth[truth != 0])) > 30


@pytest.mark.parametrize("backend", BACKENDS)
def test_tinynet_sdnn_convolution(shipped, write_net, tmp_path, backend):
    """The recording holds one step, in which nothing has arrived yet: what the biases send."""
    folder = shipped / "gts/tinynet_sdnn"
    kernel = np.load(folder / "layer1_kernel.npy").transpose(0, 3, 2, 1)[:, :, ::-1, ::-1]
    bias = np.load(folder / "layer1_bias.npy")
    layer = write_net.conv(kernel, (24, 6, 6), stride=np.array([2, 2]), bias=bias, neuron=write_net.delta(20))
    path = write_net.write_net(tmp_path / "a.net", [write_net.inputs((3, 16, 16)), layer])
    x = whct(folder / "input.npy")[:1]
    trace = snn2chip.run(import_netx(path, steps=1, input_range=FRAMES), x[:, None], backend=backend, time_axis=True)
    truth = whct(folder / "layer1.npy")
    assert (trace.payloads["layer1"][0, 0] == truth[0]).all()
    assert not truth[1:].any()
    assert truth[0].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_tinynet_sdnn_sum(shipped, write_net, tmp_path, backend):
    """The dense layer that only adds up, for 16 steps.

    lava-dl's test builds the block by hand, without the bits of its messages and weights: Lava then takes payloads as
    0 or 1 and drops the lowest bit of mixed weights. A `.net` file never does; so the same is given to it outright.
    """
    folder = shipped / "gts/tinynet_sdnn"
    sum_up = write_net.delta(0, sigma_output=True)
    path = write_net.write_net(
        tmp_path / "a.net", [write_net.dense(np.load(folder / "layer2_weight.npy") >> 1 << 1, neuron=sum_up)]
    )
    program = import_netx(path, steps=16)
    x = (np.load(folder / "layer1.npy").reshape(-1, 16).T != 0).astype(int)
    trace = snn2chip.run(program, x[:, None], backend=backend, time_axis=True)
    truth = np.load(folder / "layer2.npy").astype(int).T
    assert (trace.potentials["layer0"][:, 0] == truth).all()
    assert truth.any()


@pytest.mark.lava
def test_sigma_delta_pilotnet_on_our_lava_backend(shipped):
    """The same nine steps as one Lava process."""
    folder = shipped / "gts/pilotnet_sdnn"
    program = import_netx(folder / "network.net", steps=9)
    image = np.load(folder / "input.npy").astype(int).transpose(3, 2, 1, 0).repeat(9, axis=0)[:, None]
    if "lava" not in usable_backends(program)[0]:
        pytest.skip("Lava does not run here")
    trace = get_backend("lava", layout="fused").run(program, {"input": image})
    assert trace.potentials["layer9"][:, 0, 0].tolist() == np.load(folder / "output.npy")[0].astype(int).tolist()
