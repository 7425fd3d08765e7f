"""An integer program as a `.nir` file: `export_program(program, path)`, exact values in NIR's words.

Weights and thresholds are whole numbers (float32, exact below 2^24), a threshold lies half a unit below the integer, so
that > and >= read it alike, unless it is subtracted (then it is >=). What NIR cannot say (rounding toward zero,
saturation, resets, levels) is listed; the program itself is kept in the metadata, which loses nothing.
"""

from __future__ import annotations

import os
from typing import Any

import attrs
import networkx as nx
import numpy as np

from snn2chip.interop.nir_nodes import DT, Fields, Made, conv_fields, full, linear_fields, neuron_fields, pool_fields
from snn2chip.interop.nir_write import write_nir
from snn2chip.ir.nodes import Input, Node, Output, Synapse
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE
from snn2chip.origin import about


def export_program(program: Program, path: str | os.PathLike[str]) -> list[str]:
    """Write the program; return what NIR cannot say of it. UnsupportedError lists nodes without a primitive."""
    from snn2chip.interop.nir_own import metadata_of

    made = program_nodes(program).checked(str(path))
    write_nir(path, made.nodes, made.edges, metadata=metadata_of(program), about=about(program))
    return made.losses


def program_nodes(program: Program) -> Made:
    """Nodes and edges of a program."""
    return _Writer(program).made()


@attrs.define
class _Writer:
    """The node that every payload or current comes from; constant currents that a linear map carries for its soma."""

    program: Program
    file: Made = attrs.field(factory=Made)
    at: dict[str, str] = attrs.field(factory=dict)
    carried: dict[str, Any] = attrs.field(factory=dict)

    def made(self) -> Made:
        self.file.losses.append(
            "potentials are rounded toward zero, saturate at 24 bits and leak by k/4096; "
            f"T = {self.program.steps} steps"
        )
        back = _late(self.program)
        for soma in self.program.somas:
            self._carry(soma)
        for node in self.program.order:
            late = [edge for edge in self.program.into[node.name] if edge in back]
            self._node(node, [self._read(e) for e in self.program.into[node.name] if e not in late])
        for edge in back:
            if edge.delay != 1:
                self.file.refused.append(f"{edge.src} -> {edge.dst}: a recurrent edge of {edge.delay} steps")
            self.file.edges.append((self.at[edge.src], self.at[edge.dst]))
        return self.file

    def _read(self, edge: Edge) -> str:
        source = self.at[edge.src]
        if not edge.delay:
            return source
        shape = self.program.shapes[edge.src]
        delay: Fields = {"type": "Delay", "delay": full(edge.delay * DT, shape)}
        return self.file.add(f"{edge.src}.late{edge.delay}", delay, [source])

    def _node(self, node: Node, sources: list[str]) -> None:
        file = self.file
        if isinstance(node, Input):
            if node.coding not in ("repeat", "steps") or (node.offset != 0).any() or node.scale != 1.0:
                file.losses.append(
                    f"{node.name}: raw values become payloads first ({node.coding}, scale {node.scale:g}, offset)"
                )
            self.at[node.name] = file.add(node.name, {"type": "Input", "shape": np.array(node.shape)}, [])
        elif isinstance(node, Synapse):
            self._synapse(node, sources)
        elif isinstance(node, Soma):
            self._soma(node, sources)
        elif isinstance(node, Output):
            source = self.program.sources(node.name)[0]
            file.losses.append(f"{node.name}: the {node.read} of {source.name} is what is read")
            file.add(node.name, {"type": "Output", "shape": np.array(self.program.shapes[source.name])}, sources)
        else:
            file.refused.append(f"{node.name}: a {type(node).__name__}")
            self.at[node.name] = sources[0] if sources else ""

    def _synapse(self, node: Synapse, sources: list[str]) -> None:
        (edge,) = self.program.into[node.name]
        shape, own = self.program.shapes[edge.src], self.program.shapes[node.name]
        weight = node.dense().astype(np.float64) * 2.0**node.exponent
        bias = self.carried.get(node.name)
        if node.kind == "linear":
            if len(shape) > 1:
                flat: Fields = {"type": "Flatten", "start_dim": 0, "end_dim": -1, "input_type": np.array(shape)}
                sources = [self.file.add(f"{node.name}.flat", flat, sources)]
            if len(own) > 1:
                self.file.refused.append(f"{node.name}: a linear map that gives a plane")
            fields = linear_fields(weight, bias)
        elif node.kind == "conv2d":
            geometry = {key: getattr(node, key) for key in ("stride", "padding", "dilation", "groups")}
            fields = conv_fields(weight, bias, shape, **geometry)
        elif node.kind == "sumpool":
            fields = pool_fields("SumPool2d", node.kernel_size, node.stride, node.padding)
        elif (weight == 1).all() and sources:
            self.at[node.name] = sources[0]
            return
        else:
            fields = {"type": "Scale", "scale": full(weight, own)}
        self.at[node.name] = self.file.add(node.name, fields, sources)
        if node.kind == "sumpool" and (weight != 1).any():
            scale: Fields = {"type": "Scale", "scale": full(weight, own)}
            self.at[node.name] = self.file.add(f"{node.name}.scale", scale, [self.at[node.name]])

    def _carry(self, soma: Soma) -> None:
        """Give the constant current of a soma without leak to a map that nothing else reads."""
        gain = soma.gain[0] / 2.0 ** soma.gain_shift[0]
        through = soma.syn_leak is not None and len(soma.bias) > 1 and _integrated(soma)
        plain = soma.syn_leak is None and len(soma.bias) == 1 and (soma.leak == LEAK_ONE).all()
        if not (soma.bias != 0).any() or not (through or plain):
            return
        for edge in self.program.into[soma.name]:
            node = self.program[edge.src]
            alone = len(self.program.out_of[node.name]) == 1
            if isinstance(node, Synapse) and node.kind in ("linear", "conv2d") and alone:
                bias = (soma.bias[0] / gain).ravel()
                outputs = self.program.shapes[node.name][0]
                if bias.size in (1, outputs):
                    self.carried[node.name] = np.array(np.broadcast_to(bias, (outputs,)))
                    self.carried[soma.name] = True
                    return

    def _soma(self, soma: Soma, sources: list[str]) -> None:
        file, shape = self.file, soma.shape
        bad = _no_node(soma, carried=soma.name in self.carried)
        file.refused += [f"{soma.name}: {text}" for text in bad]
        gain = soma.gain[0] / 2.0 ** soma.gain_shift[0]
        if soma.fire == "relay":
            factor = gain * soma.out_gain[0] / 2.0 ** soma.out_shift[0]
            scale: Fields = {"type": "Scale", "scale": full(factor, shape)}
            self.at[soma.name] = file.add(soma.name, scale, sources)
            return
        fields: Fields | str = {"type": "IF"}
        if soma.fire == "levels" and soma.reset == "drop" and soma.theta is not None:
            fields = {"type": "Threshold", "threshold": full((soma.theta[0] - 0.5 - soma.bias[0]) / gain, shape)}
        elif not bad:
            fires = soma.fire == "levels" and soma.theta is not None
            below = 0.5 if soma.reset in ("zero", "value") else 0.0  # a threshold that is subtracted stays whole
            fields = neuron_fields(
                shape,
                leak=soma.leak[0] / LEAK_ONE,
                gain=gain,
                bias=0.0 if soma.name in self.carried else soma.bias[0],
                syn_leak=None if soma.syn_leak is None else soma.syn_leak[0] / LEAK_ONE,
                theta=soma.theta[0] - below if fires and soma.theta is not None else None,
                v_reset=soma.v_reset[0] if soma.reset == "value" else 0.0,
            )
        if isinstance(fields, str):
            file.refused.append(f"{soma.name}: {fields}")
            fields = {"type": "IF"}
        said = [f"reset {soma.reset}"] if soma.fire == "levels" else []
        said += ["fires at v >= theta"] if soma.fire == "levels" and soma.reset.startswith("subtract") else []
        said += [f"up to {int(soma.levels.max())} spikes in one step"] if (soma.levels > 1).any() else []
        said += ["a potential that starts elsewhere than at 0"] if (soma.v_init != 0).any() else []
        said += ["a floor of the potential"] if soma.v_min is not None else []
        file.losses += [f"{soma.name}: {text}" for text in said]
        self.at[soma.name] = file.add(soma.name, fields, sources)


def _integrated(soma: Soma) -> bool:
    """Whether a constant current that changes from step to step is one constant behind the synaptic current."""
    if soma.syn_leak is None or len(soma.syn_leak) > 1 or (soma.gain[0] == 0).any():
        return False
    if soma.syn_leak.ndim > 2 or soma.bias.ndim > 2:  # one value per neuron: no bias of a map says it
        return False
    sums = ((soma.syn_leak[0] / LEAK_ONE)[None] ** np.arange(len(soma.bias))[:, None]).cumsum(0)
    want = soma.bias[:1] * sums
    return bool((np.abs(want - soma.bias) <= sums + 1 + np.abs(want) / 512).all())


def _no_node(soma: Soma, *, carried: bool) -> list[str]:
    """What NIR has no primitive for."""
    bad = [] if soma.fire in ("levels", "none", "relay") else [f"a soma that sends {soma.fire}"]
    bad += ["a temporal window"] if soma.window is not None else []
    bad += ["a ladder of thresholds"] if soma.ladder else []
    bad += [
        f"{key} that changes from step to step"
        for key in ("theta", "leak", "gain", "bias", "syn_leak", "v_reset")
        if not soma.ladder
        and (value := getattr(soma, key)) is not None
        and len(value) > 1
        and not (key == "bias" and carried)
    ]
    if soma.fire == "levels" and ((soma.out_gain != 1).any() or (soma.out_shift != 0).any()):
        bad.append("payloads other than the number of spikes")
    bad += ["a gain of 0 or below"] if soma.reset == "drop" and soma.fire == "levels" and (soma.gain <= 0).any() else []
    return bad


def _late(program: Program) -> list[Edge]:
    """Edges with a delay that close a loop."""
    graph: Any = nx.DiGraph((e.src, e.dst) for e in program.edges)
    group = {name: i for i, part in enumerate(nx.strongly_connected_components(graph)) for name in part}
    return [e for e in program.edges if e.delay and group[e.src] == group[e.dst]]
