"""The layouts `layer` and `fused` without Lava: the plan's blocks driven step by step in this process.

Everything but Lava's own message passing is the real thing, so that thousands of programs can be compared in seconds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from snn2chip_backends.lava.backend import LavaBackend
from snn2chip_backends.lava.net.assemble import read_plan, resolve
from snn2chip_backends.lava.net.machine.machine import Machine


class DryLava(LavaBackend):
    """As the backend "lava", without processes."""

    name = "dry"

    def missing(self) -> None:
        return None

    def _run_group(self, nets: Any, record: str) -> list[Any]:
        found = []
        for net in nets:
            with tempfile.TemporaryDirectory() as folder:
                home = Path(folder) / "net"
                drive(home, net.write(home))
                found.append(net.trace(home, record, {"lava_layout": self.lava_layout}))
        return found


def drive(home: Path, job: dict[str, Any]) -> None:
    """All machine steps of one written network."""
    plan, arrays = read_plan(home)
    samples, batch, steps, stretch = job["samples"], plan["batch"], plan["steps"], plan["stretch"]
    items = {item["name"]: item for item in plan["processes"]}
    machines = {
        name: Machine(
            {**resolve(item["args"], arrays), "batch": batch, "samples": samples, "constant": job["constant"]}
        )
        for name, item in items.items()
        if item["kind"] == "block"
    }
    frames = {name: np.load(home / file) for name, file in job["frames"].items()}
    files = {
        (sink, f"in_{i}"): (channel, np.load(home / channel["file"], mmap_mode="r+"))
        for sink, channels in job["channels"].items()
        for i, channel in enumerate(channels)
    }
    for m in range(job["machine_steps"]):
        sent: dict[tuple[str, str], Any] = {}
        for name, x in frames.items():
            k, rest = divmod(m, stretch)
            n, t = divmod(k, steps)
            part = np.zeros((batch, *x.shape[2:]), x.dtype)
            inside = not rest and n * batch < samples
            if inside:
                part = x[t % len(x), np.minimum(np.arange(n * batch, (n + 1) * batch), samples - 1)]
            if name not in job["constant"] or (inside and t == 0):
                sent[name, "out_0"] = part
        for name, machine in machines.items():
            for i, value in enumerate(machine.step(m)):
                if value is None:
                    continue
                shape, dtype = items[name]["args"]["outs"][i]
                assert value.shape == ((1,) if shape is None else (batch, *shape))
                sent[name, f"out_{i}"] = value.astype(dtype)
        for source, port, target, into, _ in plan["wires"]:
            if target in machines:
                awaited = machines[target].awaits(m, int(into[3:]))
                assert awaited == ((source, port) in sent), "who sends and who receives agree"
                if awaited:
                    machines[target].take(m, int(into[3:]), sent[source, port])
                continue
            channel, file = files[target, into]
            k, rest = divmod(m - channel["skew"], stretch)
            inside = not rest and 0 <= k // steps * batch < samples
            if channel["last"]:
                assert ((source, port) in sent) == (inside and k % steps == steps - 1)
                if (source, port) not in sent:
                    continue
            value = sent[source, port]
            if channel["what"] == "count":
                file[0] += value[0]
            elif not inside:
                assert channel["what"] == "potential" or not value.any()
            else:
                start = k // steps * batch
                file[k % steps, start : start + batch] = value[: samples - start]
