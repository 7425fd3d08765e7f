"""Pooling and averaging layers: against slayer's own layers, and against sums taken one by one."""

from __future__ import annotations

import numpy as np
import pytest
from snn2chip_backends.reference.backend import synapse_current

from snn2chip import run
from snn2chip.errors import FileFormatError, UnsupportedError
from snn2chip.frontends.netx import import_netx

RNG = np.random.default_rng(9)
GEOMETRIES = {
    "plain": ((3, 6, 8), (2, 2), {}),
    "plain, oblong": ((2, 6, 6), (3, 2), {}),
    "odd sizes": ((3, 7, 5), (2, 2), {}),
    "rows that reach into the next channel": ((2, 8, 6), (3, 3), {}),
    "overlapping": ((2, 6, 6), (2, 2), {"stride": (1, 1)}),
    "sparse": ((2, 8, 8), (2, 2), {"stride": (4, 2)}),
    "padded": ((2, 6, 6), (2, 2), {"padding": (1, 1)}),
    "dilated": ((2, 8, 8), (2, 2), {"dilation": (1, 2)}),
}


def by_hand(x, kernel, stride, padding, dilation):
    """slayer's pool: zeros behind each channel, channels under each other, then one window after the other."""
    c, h, w = x.shape
    kh, kw = kernel.shape
    tall = np.zeros((c, h + h % kh, w + w % kw), int)
    tall[:, :h, :w] = x
    plane = np.pad(tall.reshape(-1, tall.shape[2]), [(p, p) for p in padding])
    rows = (plane.shape[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (plane.shape[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    out = np.zeros((rows, columns), int)
    for i in range(rows):
        for j in range(columns):
            for a in range(kh):
                for b in range(kw):
                    out[i, j] += kernel[a, b] * plane[i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]]
    return out.reshape(c, -1, columns) if rows % c == 0 else None


@pytest.mark.parametrize("name", GEOMETRIES)
def test_pools(net, files, name):
    """The current of the imported synapse is the equation's; where lava-dl is installed, its layer's too."""
    shape, size, more = GEOMETRIES[name]
    kernel = RNG.integers(1, 9, size)
    how = {"stride": size, "padding": (0, 0), "dilation": (1, 1), **more}
    x = RNG.integers(0, 3, shape)
    want = by_hand(x, kernel, **how)
    if want is None:
        with pytest.raises(FileFormatError, match="no whole channels"):
            import_netx(net(files.inputs(shape), files.pool(kernel, shape, **_arrays(how))), steps=2)
        return
    path = net(files.inputs(shape), files.pool(kernel, want.shape, **_arrays(how)))
    program = import_netx(path, steps=2, input_range=(0, 2))
    synapse = program["layer1.weight"]
    assert (synapse_current(synapse, x[None])[0] == want).all()
    assert (synapse.kind == "conv2d") == name.startswith("plain")
    assert any("slayer" in note for note in program.meta["notes"])
    theirs = pytest.importorskip("lava.lib.dl.slayer", reason="lava-dl is not installed").synapse.Pool(size, **more)
    import torch

    theirs.weight.data = torch.tensor(kernel, dtype=torch.float32).reshape(theirs.weight.shape)
    made = theirs(torch.tensor(x, dtype=torch.float32)[None, ..., None])[0, ..., 0]
    assert (made.detach().numpy() == want).all()


def _arrays(how):
    return {key: np.array(value) for key, value in how.items()}


def test_a_network_with_a_pool_and_an_average(net, files):
    """conv, pool, flatten, dense, average: the last potential is the number of spikes of each group."""
    rng = np.random.default_rng(1)
    path = net(
        files.inputs((2, 6, 6)),
        files.conv(rng.integers(-20, 60, (3, 2, 3, 3)), (3, 4, 4), neuron=files.neuron(vThMant=20)),
        files.pool(np.full((2, 2), 30), (3, 2, 2), neuron=files.neuron(vThMant=20)),
        files.flatten(),
        files.dense(rng.integers(-70, 60, (6, 12)), neuron=files.neuron(vThMant=200)),
        files.average(3),
    )
    program = import_netx(path, steps=9)
    x = rng.integers(0, 2, (9, 4, 2, 6, 6))
    trace = run(program, x, backend="reference", time_axis=True)
    spikes = trace.payloads["layer4"].reshape(9, 4, 3, 2)
    assert program["out"].read == "potential"
    assert (trace.outputs == spikes.sum((0, 3))).all()
    assert trace.payloads["layer2"].any()
    assert len(np.unique(trace.outputs)) > 2
    assert any("sum of 2 neurons" in note for note in program.meta["notes"])
    assert (run(program, x, backend="torch", time_axis=True).outputs == trace.outputs).all()


@pytest.mark.parametrize(
    ("layer", "error", "text"),
    [
        (lambda f: f.pool(np.ones((2, 2)), (2, 3, 2)), FileFormatError, r"its pool makes \(2, 3, 3\)"),
        (lambda f: f.pool(np.ones((2, 2)), (2, 9)), FileFormatError, "a pool maps"),
        (lambda f: f.pool(np.full((2, 2), 0.5), (2, 3, 3)), UnsupportedError, "whole numbers of 8 bits"),
        (lambda f: f.pool(np.ones((2, 2)), (2, 3, 3), delay=np.array([1])), UnsupportedError, "delays of a pool"),
        (lambda f: f.pool(np.ones((2, 2)), (2, 3, 3), stride=np.array([0])), FileFormatError, "do not make a pool"),
        (lambda f: {**f.pool(np.ones((2, 2)), (2, 3, 3)), "weight": np.ones(4)}, FileFormatError, "do not make a pool"),
        (lambda f: f.average(5), UnsupportedError, "averages of anything but"),
    ],
)
def test_refused(net, files, layer, error, text):
    with pytest.raises(error, match=text):
        import_netx(net(files.inputs((2, 6, 6)), layer(files)), steps=2)


def test_averages_end_a_network_and_make_equal_groups(net, files):
    dense = files.dense(np.ones((4, 3)))
    with pytest.raises(FileFormatError, match="4 neurons do not make 3 equal groups"):
        import_netx(net(dense, files.average(3)), steps=2)
    with pytest.raises(UnsupportedError, match="stands behind /layer/1"):
        import_netx(net(dense, files.average(2), files.dense(np.ones((1, 2)))), steps=2)
