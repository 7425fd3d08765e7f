"""Small networks for the comparison with NetX, one per thing that could go wrong."""

from __future__ import annotations

import numpy as np


def small_nets(files, folder, rng):
    """Write them: name -> (path of the file, input: spikes [T, ...] or, for "input neurons", biases [C, H, W])."""
    spikes = lambda *shape: rng.integers(0, 2, shape)  # noqa: E731
    n = files.neuron
    nets = {
        "dense, leaky, odd 9-bit weights": (
            [
                files.dense(rng.integers(-256, 255, (9, 7))),
                files.dense(rng.integers(-60, 90, (6, 9)), neuron=n(vThMant=30)),
            ],
            spikes(12, 7),
        ),
        "excitatory, then inhibitory with bias": (
            [
                files.dense(rng.integers(0, 256, (8, 5)), neuron=n(iDecay=3000, vDecay=40, vThMant=200)),
                files.dense(-rng.integers(1, 30, (6, 8)), bias=rng.integers(100, 160, 6), neuron=n(vThMant=90)),
            ],
            spikes(12, 5),
        ),
        "bias, read-out without neuron": (
            [
                files.dense(rng.integers(-99, 99, (8, 5)), bias=rng.integers(-30, 60, 8)),
                files.dense(rng.integers(-99, 99, (3, 8)), bias=np.array([7, -7, 0]), neuron=None),
            ],
            spikes(12, 5),
        ),
        "negative weights that NetX turns to zero": (
            [
                files.dense(np.full((4, 5), -1), bias=np.array([20, 30, 90, 1])),
                files.dense(-(2 ** rng.integers(0, 4, (3, 4))), bias=np.array([70, 30, 25])),
            ],
            spikes(12, 5),
        ),
        "delays per target": (
            [files.dense(rng.integers(-99, 200, (8, 6)), delay=rng.integers(0, 9, 8))],
            spikes(24, 6),
        ),
        "delays per source and 62": (
            [
                files.dense(rng.integers(-99, 200, (8, 6)), delay=np.array([0, 62, 3, 3, 1, 7])),
                files.dense(rng.integers(-40, 90, (3, 8)), delay=2, neuron=n(vThMant=50)),
            ],
            spikes(70, 6),
        ),
        "conv, stride, padding, groups, flatten": (
            [
                files.inputs((2, 6, 5)),
                files.conv(
                    rng.integers(-30, 45, (4, 1, 3, 2)),
                    (4, 3, 4),
                    stride=np.array([2, 1]),
                    groups=2,
                    padding=np.array([1, 0]),
                    bias=rng.integers(-9, 30, 4),
                    neuron=n(vThMant=60),
                ),
                files.conv(
                    rng.integers(-60, 80, (3, 4, 2, 2)), (3, 1, 2), dilation=np.array([2, 2]), neuron=n(vThMant=70)
                ),
                files.flatten(),
                files.dense(rng.integers(-99, 127, (4, 6)), bias=rng.integers(0, 9, 4), neuron=n(vThMant=40)),
            ],
            spikes(12, 2, 6, 5),
        ),
        "input neurons": (
            [
                files.inputs((2, 4, 3), neuron=n(vThMant=25, vDecay=1024)),
                files.conv(
                    rng.integers(-30, 45, (3, 2, 2, 2)), (3, 3, 2), bias=rng.integers(-9, 40, 3), neuron=n(vThMant=40)
                ),
                files.flatten(),
                files.dense(rng.integers(-99, 127, (4, 18)), neuron=n(vThMant=60)),
            ],
            rng.integers(0, 60, (2, 4, 3)),
        ),
    }
    nets |= machine_time(files, np.random.default_rng(7))
    return {
        name: (files.write_net(folder / f"small{i}.net", layers), x)
        for i, (name, (layers, x)) in enumerate(nets.items())
    }


MACHINE_TIME = ("recurrent", "recurrent, excitatory and inhibitory", "sigma-delta", "sigma-delta behind payloads")
"""Networks that speak before their first input arrives; read with pipelined=True."""


def machine_time(files, rng):
    """Recurrent layers and sigma-delta neurons: layers and input ([T, ...] of every step)."""
    n, delta = files.neuron, files.delta
    return {
        "recurrent": (
            [
                files.recurrent(
                    rng.integers(-40, 90, (8, 6)), rng.integers(-90, 40, (8, 8)), bias=rng.integers(0, 60, 8)
                ),
                files.recurrent(rng.integers(-40, 90, (5, 8)), rng.integers(-200, 99, (5, 5)), neuron=n(vThMant=50)),
            ],
            rng.integers(0, 2, (16, 6)),
        ),
        "recurrent, excitatory and inhibitory": (
            [files.recurrent(rng.integers(0, 120, (7, 6)), -rng.integers(1, 60, (7, 7)), neuron=n(vThMant=60))],
            rng.integers(0, 2, (16, 6)),
        ),
        "sigma-delta": (
            [
                files.inputs((2, 6, 5), neuron=delta(3)),
                files.conv(
                    rng.integers(-15, 18, (4, 2, 3, 2)), (4, 4, 4), bias=rng.integers(-20, 30, 4), neuron=delta(2)
                ),
                files.flatten(),
                files.dense(rng.integers(-20, 22, (9, 64)), bias=rng.integers(-9, 9, 9), neuron=delta(5)),
                files.recurrent(rng.integers(-30, 30, (6, 9)), rng.integers(-9, 8, (6, 6)), neuron=delta(0)),
                files.dense(rng.integers(-60, 60, (3, 6)), neuron=delta(1, sigma_output=True)),
            ],
            rng.integers(-30, 60, (4, 2, 6, 5)).repeat(4, axis=0) + rng.integers(0, 4, (16, 2, 6, 5)),
        ),
        "sigma-delta behind payloads": (
            [
                files.dense(rng.integers(-60, 70, (7, 5)), bias=rng.integers(-3, 9, 7), neuron=delta(1)),
                files.dense(rng.integers(-9, 14, (6, 7)), neuron=n(vThMant=60)),
                files.dense(rng.integers(-40, 90, (6, 6)), neuron=delta(2, sigma_output=True)),
                files.dense(rng.integers(-7, 9, (4, 6)), neuron=n(vThMant=10)),
            ],
            rng.integers(-200, 240, (16, 5)),
        ),
    }
