"""Layouts of conv, flatten and dense layers, and axonal delays: any swapped axis or shifted step changes a number."""

from __future__ import annotations

import numpy as np
import pytest

import snn2chip
from snn2chip.frontends.netx import import_netx

NEVER_FIRES = 1 << 17


def run(program, x):
    return snn2chip.run(program, np.asarray(x), backend="reference")


def test_conv_flatten_dense_is_torch_order(net, files):
    """Asymmetric kernel, strides and shapes: any swapped axis or flipped kernel changes the numbers."""
    rng = np.random.default_rng(3)
    kernel, weight = rng.integers(-9, 10, (2, 3, 2, 3)), rng.integers(-9, 10, (4, 2 * 2 * 4))
    free = files.neuron(iDecay=4096, vDecay=4096, vThMant=0)
    path = net(
        files.inputs((3, 4, 6)),
        files.conv(kernel, (2, 2, 4), stride=np.array([2, 1]), padding=np.array([0, 0]), neuron=free),
        files.flatten(),
        files.dense(weight, neuron=files.neuron(iDecay=4096, vDecay=4096, vThMant=NEVER_FIRES)),
    )
    x = rng.integers(0, 2, (5, 1, 3, 4, 6))
    program = import_netx(path, steps=5)
    trace = run(program, x)
    for t in range(5):
        a = np.zeros((2, 2, 4), int)
        for c, i, j in np.ndindex(2, 2, 4):
            a[c, i, j] = (kernel[c] * x[t, 0, :, 2 * i : 2 * i + 2, j : j + 3]).sum()
        assert (trace.payloads["layer1"][t, 0] == (a > 0)).all()
        assert (trace.potentials["layer3"][t, 0] == 64 * weight @ (a > 0).ravel()).all()
    assert 0 < trace.payloads["layer1"].mean() < 1


def test_five_axes_of_a_kernel_are_four(net, files):
    kernel = np.arange(8).reshape(1, 2, 2, 2, 1)
    program = import_netx(net(files.inputs((2, 3, 3)), files.conv(kernel, (1, 2, 2))), steps=2)
    assert program["layer1.weight"].weight.tolist() == kernel[..., 0].tolist()


def test_scalar_geometry_and_groups(net, files):
    layer = files.conv(np.ones((4, 1, 2, 2)), (4, 2, 2), stride=2, padding=1, dilation=2, groups=2)
    synapse = import_netx(net(files.inputs((2, 3, 3)), layer), steps=2)["layer1.weight"]
    assert (synapse.stride, synapse.padding, synapse.dilation, synapse.groups) == ((2, 2), (1, 1), (2, 2), 2)


def test_conv_bias_per_channel_and_per_neuron(net, files):
    kernel, rng = np.ones((2, 1, 1, 1)), np.random.default_rng(0)
    per_channel = import_netx(
        net(files.inputs((1, 2, 3)), files.conv(kernel, (2, 2, 3), bias=np.array([4, 5]))), steps=1
    )
    assert per_channel["layer1"].bias.tolist() == [[256, 320]]
    whc = rng.integers(-9, 9, (3, 2, 2))
    program = import_netx(net(files.inputs((1, 2, 3)), files.conv(kernel, (2, 2, 3), bias=whc)), steps=1)
    assert (program["layer1"].bias[0] == 64 * whc.transpose(2, 1, 0)).all()


@pytest.mark.parametrize(
    ("delay", "matrix"),
    [
        (3, [[3, 3, 3], [3, 3, 3]]),
        (np.array([0.0, 2.0]), [[0, 0, 0], [2, 2, 2]]),
        (np.array([1, 0, 2]), [[1, 0, 2], [1, 0, 2]]),
        (np.array([[0, 1, 0], [2, 1, 62]]), [[0, 1, 0], [2, 1, 62]]),
    ],
    ids=["one for all", "per target", "per source", "per synapse"],
)
def test_delays(net, files, delay, matrix):
    """A spike of source j at step t adds w[i, j] to neuron i at step t + d[i, j], and nowhere else."""
    weight = np.array([[1, 10, 100], [2, 20, 125]])
    layer = files.dense(weight, delay=delay, neuron=files.neuron(iDecay=4096, vDecay=4096, vThMant=NEVER_FIRES))
    spikes = np.zeros((70, 1, 3), int)
    spikes[[0, 1, 1, 4], 0, [0, 1, 2, 0]] = 1
    trace = run(import_netx(net(layer), steps=70), spikes)
    want = np.zeros((70, 2), int)
    for t, _, j in np.argwhere(spikes):
        for i in range(2):
            if t + matrix[i][j] < 70:
                want[t + matrix[i][j], i] += 64 * weight[i, j]
    assert trace.potentials["layer0"][:, 0].tolist() == want.tolist()


def test_square_layer_takes_delays_per_target(net, files):
    """As in NetX: with as many sources as targets, one delay each belongs to the targets."""
    layer = files.dense(np.eye(2, dtype=int) * 8 + 1, delay=np.array([0, 5]))
    program = import_netx(net(layer), steps=8)
    assert {e.dst: e.delay for e in program.edges if e.src == "input"} == {"layer0.weight.d0": 0, "layer0.weight.d5": 5}
    assert program["layer0.weight.d5"].dense().tolist() == [[0, 0], [1, 9]]
    assert program["layer0.weight.d5"].sparse


def test_delays_beyond_62_are_clamped_and_noted(net, files):
    program = import_netx(net(files.dense([[1, 2]], delay=np.array([80, 3]))), steps=8)
    assert sorted(e.delay for e in program.edges if e.src == "input") == [3, 62]
    assert "clamped to 62" in program.meta["notes"][0]
