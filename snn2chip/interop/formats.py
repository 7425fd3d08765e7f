"""What can be read and what can be written, by name: the table of `docs/interop.md` is made of this.

A source makes a float network or a program of a file; a sink writes a program, and some write float networks too.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs

from snn2chip.errors import InputError, UnsupportedError

FEATURES = (
    "dense",
    "conv",
    "pooling",
    "sums of branches",
    "LIF, IF",
    "current-based",
    "several spikes a step",
    "sigma-delta",
    "recurrent",
    "delays",
    "float networks",
    "integer programs",
)


@attrs.frozen(kw_only=True)
class Source:
    """A kind of file that can be compiled: its endings, what of it is understood, and what is refused."""

    name: str
    endings: tuple[str, ...]
    what: str
    verb: str
    supports: Mapping[str, str]
    refuses: str


@attrs.frozen(kw_only=True)
class Sink:
    """A kind of file that can be written: `program` and `graph` name `module:function` of the writers."""

    name: str
    endings: tuple[str, ...]
    what: str
    program: str
    graph: str = ""
    supports: Mapping[str, str]
    refuses: str

    def write(self, network: Any, path: Path) -> list[str]:
        """Write a program or a float graph; return what the format cannot say. UnsupportedError if it cannot at all."""
        from snn2chip.ir.program import Program

        writer = self.program if isinstance(network, Program) else self.graph
        if not writer:
            raise UnsupportedError(f"{self.name} files hold programs; compile the network first: snn2chip compile")
        module, _, function = writer.partition(":")
        return list(getattr(import_module(module), function)(network, path))


YES = "yes"
SOURCES: Mapping[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="PyTorch",
            endings=(".safetensors", ".pt", ".pth"),
            what="checkpoints of snn2chip, state dicts with a model, modules in `snn2chip.compile`",
            verb="compile",
            supports={
                "dense": YES,
                "conv": YES,
                "pooling": YES,
                "sums of branches": YES,
                "LIF, IF": YES,
                "several spikes a step": YES,
                "recurrent": "one population",
                "float networks": YES,
            },
            refuses="operations without an integer form, with their source line",
        ),
        Source(
            name="NIR",
            endings=(".nir",),
            what="files of snnTorch, SpikingJelly, norse, sinabs, rockpool, lava-dl by profile",
            verb="compile --nir-profile",
            supports={
                "dense": "Linear, Affine",
                "conv": "Conv1d, Conv2d",
                "pooling": "SumPool2d, AvgPool2d",
                "sums of branches": YES,
                "LIF, IF": "IF, LIF, Threshold; I, LI as read-outs",
                "current-based": "CubaLIF; CubaLI as read-out",
                "several spikes a step": "by profile",
                "recurrent": "one population",
                "delays": "one for all neurons",
                "float networks": YES,
                "integer programs": "our own",
            },
            refuses="values that do not fit the profile, loops over several populations",
        ),
        Source(
            name="NetX",
            endings=(".net",),
            what="networks of lava-dl",
            verb="compile",
            supports={
                "dense": YES,
                "conv": YES,
                "pooling": "as slayer computes it",
                "LIF, IF": "CUBA registers",
                "current-based": YES,
                "sigma-delta": YES,
                "recurrent": "dense layers",
                "delays": "axonal",
                "integer programs": YES,
            },
            refuses="what NetX itself would change in silence, layer by layer",
        ),
        Source(
            name="ONNX",
            endings=(".onnx",),
            what="ordinary networks, converted without training",
            verb="compile --method",
            supports={"dense": YES, "conv": YES, "pooling": YES, "sums of branches": YES, "float networks": YES},
            refuses="operations other than those of feed-forward networks",
        ),
    )
}
SINKS: Mapping[str, Sink] = {
    sink.name: sink
    for sink in (
        Sink(
            name="nir",
            endings=(".nir",),
            what="nir 1.0.8, readable by nirtorch and the frameworks; read back by snn2chip without loss",
            program="snn2chip.interop.nir_program:export_program",
            graph="snn2chip.interop.nir_graph:export_graph",
            supports={
                "dense": YES,
                "conv": YES,
                "pooling": YES,
                "sums of branches": YES,
                "LIF, IF": YES,
                "current-based": YES,
                "several spikes a step": "listed as lost",
                "recurrent": "yes; a bias that starts a step late in float networks only",
                "delays": YES,
                "float networks": YES,
                "integer programs": YES,
            },
            refuses="windows, ladders, graded payloads, products, values that change from step to step",
        ),
        Sink(
            name="netx",
            endings=(".net",),
            what="lava-dl's NetX, loaded unmodified with equal spikes",
            program="snn2chip.interop.netx:export_netx",
            supports={
                "dense": YES,
                "conv": YES,
                "LIF, IF": "reset to zero",
                "current-based": YES,
                "sigma-delta": "in machine time",
                "recurrent": "dense layers",
                "delays": "dense layers",
                "integer programs": YES,
            },
            refuses="everything but one chain of layers with NetX's own neurons",
        ),
    )
}


def sink_named(name: str) -> Sink:
    """The sink called `name`; InputError names those there are."""
    if name not in SINKS:
        raise InputError(f"--to {name!r} is unknown; known: {', '.join(SINKS)}")
    return SINKS[name]


def table() -> str:
    """The tables of sources and sinks in Markdown."""
    parts = []
    for title, rows in (("Sources", SOURCES), ("Sinks", SINKS)):
        formats: list[Source | Sink] = list(rows.values())
        head = [f"{f.name} ({', '.join(f.endings)})" for f in formats]
        lines = [["", *head], ["---"] * (len(head) + 1), ["what", *(f.what for f in formats)]]
        if title == "Sources":
            lines.append(["verb", *(f"`snn2chip {f.verb}`" for f in SOURCES.values())])
        lines += [[feature, *(f.supports.get(feature, "no") for f in formats)] for feature in FEATURES]
        lines.append(["refused, each with its place", *(f.refuses for f in formats)])
        parts.append(f"### {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(parts)
