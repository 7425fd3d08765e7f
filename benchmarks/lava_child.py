"""One Lava network in a process of its own, run again for every line on standard input.

`python lava_child.py package DIR X.npz MODE BATCH` runs an emitted package, `python lava_child.py netx FILE.net
BIAS.npy STEPS LAG` lava-dl's own network of a .net file with input neurons. The line names a .npy file for the outputs;
the answer is one line `RESULT {...}` with the seconds of the run without start-up.
"""

from __future__ import annotations

import json
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np

MARK = "RESULT "


def package(folder: str, samples: str, mode: str, batch: str) -> tuple[Any, dict[str, Any]]:
    """First output of an emitted package."""
    sys.path.insert(0, folder)
    from lava_net.package import run_package  # type: ignore[import-not-found]

    with np.load(samples) as data:
        x = {name: data[name] for name in data.files}
    found = run_package(Path(folder), x, mode=mode, batch=int(batch))
    info = found["info"]
    told = {"seconds": info["run_s"], "start_s": info["compile_s"] + info["start_s"], "steps": info["steps"]}
    return next(iter(found["outputs"].values())), told | {"processes": info["processes"]}


def netx(net: str, bias: str, steps: str, lag: str) -> tuple[Any, dict[str, Any]]:
    """Spike counts of the last layer over `steps` steps, which it begins `lag` steps late."""
    for name in ("slayer", "slayer.neuron", "slayer.neuron.rf"):  # its trainer, which NetX hardly needs, imports torch
        sys.modules[f"lava.lib.dl.{name}"] = types.ModuleType(name)
    sys.modules["lava.lib.dl.slayer.neuron.rf"].neuron_params = None  # type: ignore[attr-defined]
    from lava.lib.dl.netx import hdf5
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer

    begin = time.perf_counter()
    network = hdf5.Network(net, reset_interval=int(steps), reset_offset=0)  # biases act before the first input comes
    x = np.load(bias)
    network.in_layer.neuron.bias_mant.init = x.transpose(range(x.ndim)[::-1]).astype(int)
    last = network.layers[-1]
    sink = RingBuffer(shape=last.out.shape, buffer=int(steps) + int(lag))
    last.neuron.s_out.connect(sink.a_in)
    config = Loihi2SimCfg(select_tag="fixed_pt")
    network.run(condition=RunSteps(num_steps=int(lag)), run_cfg=config)
    start = time.perf_counter()
    network.run(condition=RunSteps(num_steps=int(steps)), run_cfg=config)
    seconds = time.perf_counter() - start
    spikes = np.asarray(sink.data.get())[..., int(lag) :]
    network.stop()
    counts = (spikes != 0).sum(-1).transpose(range(spikes.ndim - 1)[::-1]).reshape(1, -1)
    told = {"seconds": seconds, "start_s": start - begin, "steps": int(steps), "processes": len(network.layers) + 1}
    return counts, told


def main(kind: str, *arguments: str) -> None:
    """Answer until standard input ends."""
    for number, line in enumerate(sys.stdin):
        outputs, told = {"package": package, "netx": netx}[kind](*arguments)
        np.save(line.strip(), outputs.astype(np.int64))
        print(f"{MARK}{json.dumps({**told, 'run': number})}", flush=True)
    os._exit(0)  # Lava's processes would try to stop runtimes that are gone


if __name__ == "__main__":
    main(*sys.argv[1:])
