"""Chain the layers of a `.net` file into a program: shapes, inputs, read-out."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.frontends.netx_delta import SDNN
from snn2chip.frontends.netx_fields import unknown_fields
from snn2chip.frontends.netx_file import READ, LayerSpec, NetFile
from snn2chip.frontends.netx_issues import Issues
from snn2chip.frontends.netx_pooling import average_read_out, pool_synapse
from snn2chip.frontends.netx_soma import is_read_out, peak_current, soma_of
from snn2chip.frontends.netx_synapse import Delayed, conv_synapses, dense_synapses
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX
from snn2chip.ir.validate import current_ranges

PLANES = ("conv", "pool")
"""Layers that map planes to planes."""
BIAS_LO, BIAS_HI = -(1 << 15), (1 << 15) - 1
"""Range of a bias mantissa."""


@attrs.define
class Build:
    """Nodes so far, and what feeds the next layer: `source` (a node's name) with `shape`, flat or not, graded."""

    steps: int
    reset_interval: int | None
    input_range: tuple[int, int]
    exact: bool
    issues: Issues
    shape: tuple[int, ...] | None
    spike_exp: int = 6
    pipelined: bool = False
    source: str = ""
    graded: bool = False
    flat: bool = False
    transform: dict[str, float] | None = None
    ended: str = ""
    nodes: list[Input | Synapse | Soma] = attrs.field(factory=list)
    edges: list[tuple[str, str, int]] = attrs.field(factory=list)
    somas: list[Soma] = attrs.field(factory=list)

    def add(self, layer: LayerSpec, *, skip: bool) -> None:
        """Append one layer of the file, or only take note of its shape."""
        for field in () if skip else unknown_fields(layer):
            self.issues.unknown(layer, field)
        if self.ended:
            self.issues.refuse(layer, f"stands behind {self.ended}, which ends a network")
        elif layer.kind == "flatten":
            self.flat = True
        elif layer.kind not in READ:
            self.issues.refuse(layer, _why_not(layer))
            self.shape, self.source = None, self.source or "?"
        elif skip:
            self.shape, self.flat = layer.shape, False
        elif layer.kind == "input":
            self._input(layer)
        elif layer.kind == "average":
            self._average(layer)
        else:
            self._block(layer)

    def _input(self, layer: LayerSpec) -> None:
        if layer.index != 0:
            self.issues.refuse(layer, "an input layer after the first layer")
            self.shape = None
            return
        self.shape = layer.shape or self.shape
        if layer.neuron is None:
            return
        if self.shape is None or len(self.shape) not in (1, 3):
            self.issues.damaged(layer, f"input neurons need a shape (N,) or (C, H, W), got {self.shape}")
            return
        numbers = {key: layer.numbers.get(key, np.array(default)) for key, default in (("weight", 64), ("bias", 0))}
        if any(value.size != 1 for value in numbers.values()):
            self.issues.damaged(layer, "the input transform needs one weight and one bias")
            return
        self.transform = {key: float(np.trunc(value.ravel()[0])) for key, value in numbers.items()}
        coding = "steps" if layer.neuron.type == SDNN else "repeat"  # a bias is constant, what is encoded changes
        self.nodes.append(Input("input", self.shape, BIAS_LO, BIAS_HI, coding=coding, layer=layer.path))
        self.source = "input"
        self._soma(layer, self.shape, [Delayed(Synapse(f"layer{layer.index}.bias", "identity", layer=layer.path))])

    def _block(self, layer: LayerSpec) -> None:
        assert layer.shape is not None
        if layer.inner:
            inner = ", ".join(layer.inner[:4])
            self.issues.refuse(layer, f"the weight is a group ({inner}); complex weights cannot be imported")
            self.source, self.shape = self.source or "?", None
        if not self.source:
            self._spike_input(layer)
        before = self.shape
        if before is None:
            self._soma(layer, layer.shape, [])  # a layer before this one was refused; list what is wrong here too
        elif layer.kind in PLANES and (len(before) != 3 or self.flat or len(layer.shape) != 3):
            flat = " (flattened)" if self.flat else ""
            self.issues.damaged(
                layer, f"a {layer.kind} maps (C, H, W) to (C, H, W), got {before}{flat} and {layer.shape}"
            )
        elif layer.kind not in PLANES and len(before) != 1 and not self.flat:
            self.issues.damaged(layer, f"reads {before}; a flatten layer must stand between (it fixes the order)")
        elif layer.kind == "conv":
            found = conv_synapses(layer, before, exact=self.exact, issues=self.issues)
            self._soma(layer, layer.shape, found)
        elif layer.kind == "pool":
            self.issues.note(layer, "lava-dl's NetX builds no pools; this one is computed as slayer does")
            self._soma(layer, layer.shape, pool_synapse(layer, before, issues=self.issues))
        else:
            found = dense_synapses(layer, int(np.prod(before)), exact=self.exact, issues=self.issues)
            self._soma(layer, (int(np.prod(layer.shape)),), found)
        self.shape = layer.shape if layer.kind in PLANES else (int(np.prod(layer.shape)),)
        self.flat = False

    def _average(self, layer: LayerSpec) -> None:
        """Sums of groups of neurons, read after the last step; nothing may follow."""
        if self.shape is None or self.graded or not self.somas:
            self.issues.refuse(layer, "averages of anything but the binary spikes of neurons are not imported")
        elif found := average_read_out(layer, int(np.prod(self.shape)), issues=self.issues):
            self.nodes += found
            self.edges += [(self.source, found[0].name, 0), (found[0].name, found[1].name, 0)]
            self.somas.append(found[1])
        self.shape, self.source, self.ended = None, self.source or "?", layer.name

    def _spike_input(self, layer: LayerSpec) -> None:
        """The payloads that reach the first synapse; a dense one takes them flat, as NetX does."""
        shape = self.shape
        if layer.kind not in PLANES:
            assert layer.shape is not None
            known = (
                int(np.prod(shape)) if shape is not None else layer.numbers["weight"].size // int(np.prod(layer.shape))
            )
            shape = (known,)
        if shape is None:
            text = "the file does not say what shape it reads"
            self.issues.refuse(layer, f"{text}; pass --netx-input-shape C,H,W (input_shape=(C, H, W))")
            return
        lo, hi = self.input_range
        self.nodes.append(Input("input", shape, lo, hi, coding="steps", layer=layer.path))
        self.shape, self.source = shape, "input"
        self.graded = (lo, hi) != (0, 1)

    def _soma(self, layer: LayerSpec, shape: tuple[int, ...], synapses: list[Delayed]) -> None:
        soma = soma_of(
            layer,
            shape,
            steps=self.steps,
            reset_interval=self.reset_interval,
            exact=self.exact,
            issues=self.issues,
            spike_exp=self.spike_exp,
        )
        changes = layer.neuron is not None and layer.neuron.type == SDNN
        if changes and not self.graded and any(synapse.back for synapse in synapses):
            self.issues.refuse(
                layer, "NetX makes binary what comes back to neurons whose own input is binary, but these send changes"
            )
        self.graded = changes
        if soma is not None:
            hop = int(self.pipelined and layer.kind != "input")
            for found in synapses:
                name, source = found.synapse.name, soma.name if found.back else self.source
                self.nodes.append(found.synapse)
                late = found.delay + (1 if found.back else hop)
                self.edges += [(source, name, late), (name, soma.name, 0)]
            self.nodes.append(soma)
            self.somas.append(soma)
        self.source = f"layer{layer.index}"

    def program(self, name: str, net: NetFile) -> Program:
        """The program; a last layer whose threshold is out of reach is read by its potential, others by spike count."""
        last = self.somas[-1]
        draft = self._assemble(last, "count", {})
        ranges = current_ranges(draft)
        for soma in self.somas:
            peak = peak_current(soma, *ranges[soma.name], self.steps)
            if soma.syn_leak is not None and peak > V_MAX:
                layer = net.layers[int(soma.name.removeprefix("layer"))]
                lava = "Lava wraps only once and keeps 2^23 itself" if soma.fire == "levels" else "Lava's has 32"
                self.issues.note(layer, f"|u| may reach {peak} and wrap at 24 bits; {lava}")
        silent = last.fire in ("relay", "none") or is_read_out(last, *ranges[last.name], self.steps)
        meta = {
            "name": name,
            "source": "netx",
            "input_transform": self.transform,
            "pipelined": self.pipelined,
            "notes": [f"{note['layer']}: {note['note']}" for note in self.issues.notes],
        }
        if silent:
            return self._assemble(attrs.evolve(last, fire="none"), "potential", meta)
        return self._assemble(last, "payload" if last.fire == "delta" else "count", meta)

    def _assemble(self, last: Soma, read: str, meta: dict[str, Any]) -> Program:
        return Program(
            nodes=[*(n for n in self.nodes if n.name != last.name), last, Output("out", read, layer=last.layer)],
            edges=[*self.edges, (last.name, "out")],
            steps=self.steps,
            target="loihi2",
            records=self.issues.notes,
            meta=meta,
        )


def _why_not(layer: LayerSpec) -> str:
    known = {
        "dense_comp": "layers with complex weights are not imported",
        **dict.fromkeys(("convT", "unpool", "concat"), "NetX cannot build it either"),
    }
    why = known.get(layer.kind, "unknown layer type, which NetX would drop in silence")
    how = f"--num-layers {layer.index} (num_layers={layer.index}) imports what stands before it"
    return f"{why}; {how}" if layer.index else why
