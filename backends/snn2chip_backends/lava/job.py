"""One guarded Lava run of several networks: write the job folder, run the child, read the traces back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from snn2chip.errors import BackendFailure
from snn2chip.ir.nodes import describe
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.outputs import read_outputs
from snn2chip.reports.counts import count
from snn2chip.trace import Trace
from snn2chip_backends.lava.blocks import WHOLE
from snn2chip_backends.lava.guard import run_child
from snn2chip_backends.lava.limits import CHANNEL_SIZE
from snn2chip_backends.lava.net.assemble import SINKS, empty_file, same_at_all_steps, write_plan
from snn2chip_backends.lava.plan import NetPlan

ASYNC_CHANNEL_SIZE = 16
CHANNEL_BYTES = 64_000_000

NOTES = {
    "layer": "lava: layout 'layer', one own process per layer; the layout 'stock' is the independent oracle",
    "fused": "lava: layout 'fused', one own process for the whole network: a fast mode, not an independent oracle",
}


@attrs.frozen
class Net:
    """One program with its coded inputs `[T, B, ...]`, ready to be written."""

    program: Program
    plan: NetPlan
    inputs: Mapping[str, IntArray]
    prefix: str = attrs.field(default="", kw_only=True)

    @property
    def samples(self) -> int:
        """Samples of this run."""
        return int(next(iter(self.inputs.values())).shape[1])

    @property
    def batch(self) -> int:
        """Samples in one message."""
        return int(self.plan.data.get("batch", 1))

    @property
    def machine_steps(self) -> int:
        """Machine steps from the first input to the last result."""
        return self.plan.timing.machine_steps(-(-self.samples // self.batch))

    def write(self, home: Path) -> dict[str, Any]:
        """Write plan, frames and empty result files; return the job's entry."""
        home.mkdir()
        write_plan(home, self.plan.data, self.plan.arrays)
        frames, constant = {}, []
        dtypes = {p["name"]: p["args"]["dtype"] for p in self.plan.data["processes"] if "dtype" in p["args"]}
        for i, node in enumerate(self.program.inputs):
            frames[node.name], x = f"frames{i}.npy", self.inputs[node.name]
            if node.name in dtypes and same_at_all_steps(x):
                constant.append(node.name)
                x = x[:1]
            np.save(home / frames[node.name], x.astype(dtypes.get(node.name, node.payload_type().dtype())))
        channels: dict[str, list[dict[str, Any]]] = {
            p["name"]: [] for p in self.plan.data["processes"] if p["kind"] in SINKS
        }
        for i, channel in enumerate(self.plan.channels):
            entry = {k: channel[k] for k in ("label", "what", "shape", "skew", "last") if k in channel}
            full = (1,) if channel["what"] == "count" else (self.program.steps, self.samples, *channel["shape"])
            empty_file(home / f"kept{i}.npy", channel["dtype"], full)
            channels[channel["sink"]].append(entry | {"file": f"kept{i}.npy"})
        return {
            "folder": home.name,
            "samples": self.samples,
            "machine_steps": self.machine_steps,
            "prefix": self.prefix,
            "frames": frames,
            "constant": constant,
            "channels": channels,
        }

    def trace(self, home: Path, record: str, info: Mapping[str, Any]) -> Trace:
        """Read the recorded files into a Trace."""
        program, shape = self.program, (self.program.steps, self.samples)
        kept: dict[str, dict[str, Any]] = {"payload": {}, "potential": {}, "count": {}}
        for i, channel in enumerate(self.plan.channels):
            kept[channel["what"]][channel["node"]] = np.load(home / f"kept{i}.npy", allow_pickle=False)
        payloads = kept["payload"]
        for soma in program.somas:
            if soma.name not in payloads:  # fire="none", or a range of 0 only: nothing is ever sent
                payloads[soma.name] = np.zeros((*shape, *soma.shape), np.int8)
        values = {**payloads, **self.inputs}

        def reduce(name: str, steps: int) -> tuple[IntArray, IntArray]:
            part = values[name][:steps]
            return (part != 0).sum((0, 1)), np.abs(part.astype(np.int64)).sum((0, 1))

        outputs = read_outputs(program, payloads, kept["potential"])
        saturated = {name: int(value[0]) for name, value in kept["count"].items()}
        keep = record == "all"
        return Trace(
            backend="lava",
            steps=program.steps,
            samples=self.samples,
            outputs=outputs[program.outputs[0].name] if outputs else np.zeros((self.samples, 0), np.int64),
            all_outputs=outputs,
            payloads={s.name: payloads[s.name].astype(np.int32) for s in program.somas} if keep else {},
            potentials={s.name: kept["potential"][s.name] for s in program.somas if s.name in kept["potential"]}
            if keep
            else {},
            inputs={n.name: self.inputs[n.name].astype(np.int32) for n in program.inputs} if keep else {},
            counts=count(program, reduce, samples=self.samples, saturations=saturated),
            notes=self.notes(info["lava_layout"]),
            info={**info, "machine_steps": self.machine_steps, "batch": self.batch, "layout": self.plan.table()},
        )

    def notes(self, layout: str) -> list[str]:
        """What this run could not observe, and what it is not."""
        if layout != "stock":
            return [NOTES[layout]]
        unseen = [c.node for c in self.plan.layout.values() if c.kind in ("LIFReset", "GradedVec")]
        if not unseen:
            return []
        return [f"lava: potentials of stock processes are not observed ({', '.join(unseen)})"]


class Job:
    """Several networks in one Lava runtime."""

    def __init__(
        self, folder: Path, nets: Sequence[Net], *, mode: str, timeout: float | None, layout: str = "stock"
    ) -> None:
        self.folder, self.nets, self.mode, self.layout = folder, list(nets), mode, layout
        self.limit_s = timeout if timeout is not None else self.default_limit()

    def default_limit(self) -> float:
        """Generous: about twenty times what such a run takes."""
        processes = sum(net.plan.size for net in self.nets)
        steps = max(net.machine_steps for net in self.nets)
        weights = sum(a.size for net in self.nets for a in net.plan.arrays.values())
        pixels = sum(s.size for net in self.nets for s in net.program.somas)
        batch = max(net.batch for net in self.nets)
        step_s = 0.4e-3 * processes + 4e-9 * (weights + 500 * pixels) * batch
        return 60.0 + processes + 20.0 * steps * step_s

    def channel_size(self) -> int:
        """Messages that a channel holds: more without the barrier, as far as memory is small."""
        if self.mode != "async":
            return CHANNEL_SIZE
        one = sum(net.plan.message_bytes for net in self.nets)
        return max(CHANNEL_SIZE, min(ASYNC_CHANNEL_SIZE, CHANNEL_BYTES // max(one, 1)))

    def run(self, record: str) -> list[Trace]:
        """Run everything; raises BackendFailure naming the node whose process failed."""
        entries = [net.write(self.folder / f"net{i}") for i, net in enumerate(self.nets)]
        job = {
            "nets": entries,
            "mode": self.mode,
            "limit_s": self.limit_s,
            "channel_size": self.channel_size(),
        }
        np.save(self.folder / "progress.npy", np.zeros(1, np.int64))
        (self.folder / "job.json").write_text(json.dumps(job))
        result = run_child(self.folder, limit_s=self.limit_s)
        if not result["ok"]:
            raise BackendFailure(self.story(result["process"], result["text"]))
        info = {"mode": self.mode, "lava_layout": self.layout, "side_by_side": len(self.nets), **result["info"]}
        return [net.trace(self.folder / f"net{i}", record, info) for i, net in enumerate(self.nets)]

    def story(self, process: str, text: str) -> str:
        """The failure in the user's terms."""
        for net in self.nets:
            name = process[len(net.prefix) :]
            if process.startswith(net.prefix) and name in net.plan.owner:
                owner = net.plan.owner[name]
                node = net.program.by_name.get(owner)
                where = describe(node) if node is not None else "the whole network" if owner == WHOLE else name
                return f"the Lava process {name!r} of {where} {text}"
        return f"the Lava run failed: {text}" if not process else f"the Lava process {process!r} {text}"
