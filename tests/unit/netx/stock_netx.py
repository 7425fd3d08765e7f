"""Run lava-dl's own `netx.hdf5.Network` and save what its neurons did; to be started as a process of its own.

`python stock_netx.py JOBS.json`: a list of jobs {net, input, kind, steps, options, watch, out}. `kind` is `bias`
(input [C, H, W] or [N] set as the bias of the input neurons), `spikes` (input [T, ...] into `net.inp`) or `encoded`
(into the input neurons). `out` gets an npz with `s<k>` [steps, ...] for every block k in torch order, and `v<k>` for
the blocks in `watch`, which names the variable to be kept.
Lava hangs when a process model raises, so the caller kills the whole group after a time limit.
"""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path

import numpy as np


def without_slayer():
    """Keep lava-dl's trainer, and with it torch, out: NetX asks it for resonate-and-fire numbers only."""
    for name in ("slayer", "slayer.neuron", "slayer.neuron.rf"):
        sys.modules[f"lava.lib.dl.{name}"] = types.ModuleType(name)
    sys.modules["lava.lib.dl.slayer.neuron.rf"].neuron_params = None


def torch_order(array):
    """`[W, H, C, T]` or `[N, T]` as `[T, C, H, W]` or `[T, N]`."""
    return np.asarray(array).transpose(range(np.ndim(array))[::-1]).astype(np.int64)


def run(job):
    """Build, run and stop one network."""
    from lava.lib.dl.netx import hdf5
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.monitor.process import Monitor

    net, steps, x = hdf5.Network(job["net"], **job["options"]), job["steps"], np.load(job["input"])
    if job["kind"] == "bias":
        net.in_layer.neuron.bias_mant.init = x.transpose(range(x.ndim)[::-1]).astype(int)
    else:
        frames = x.transpose(range(x.ndim)[::-1]).astype(np.int32)
        source = Source(data=np.concatenate([frames, np.zeros((*frames.shape[:-1], steps), np.int32)], axis=-1))
        source.s_out.connect(net.in_layer.neuron.a_in if job["kind"] == "encoded" else net.inp)
    sinks = []
    for block in net.layers:
        sinks.append(Sink(shape=block.out.shape, buffer=steps))
        block.neuron.s_out.connect(sinks[-1].a_in)
    monitors = {int(k): Monitor() for k in job["watch"]}
    for k, monitor in monitors.items():
        monitor.probe(getattr(net.layers[k].neuron, job["watch"][str(k)]), steps)
    net.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    found = {f"s{k}": torch_order(sink.data.get()) for k, sink in enumerate(sinks)}
    for k, monitor in monitors.items():
        (values,) = next(iter(monitor.get_data().values())).values()
        found[f"v{k}"] = np.asarray(values).reshape(steps, -1).astype(np.int64)
    net.stop()
    np.savez(job["out"], **found)


if __name__ == "__main__":
    without_slayer()
    for entry in json.loads(Path(sys.argv[1]).read_text()):
        run(entry)
    sys.stdout.flush()
    os._exit(0)
