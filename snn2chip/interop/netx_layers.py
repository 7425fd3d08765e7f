"""The chain of a program and its synapses as the layers of a `.net` file."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.frontends.netx_synapse import INT8, MAX_DELAY
from snn2chip.frontends.netx_weights import netx_joined_weights
from snn2chip.ir.nodes import Host, Input, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray

GEOMETRY = ("stride", "padding", "dilation", "groups")


@attrs.frozen(kw_only=True, eq=False)
class Stage:
    """One soma with the synapses (and their logical delays) from the one node before it, of `source_shape`.

    `back` are those from the soma itself, with a delay of 1.
    """

    soma: Soma
    synapses: tuple[tuple[Synapse, int], ...]
    source_shape: tuple[int, ...]
    back: tuple[Synapse, ...] = ()

    @property
    def conv(self) -> bool:
        """Whether it becomes a conv layer."""
        return all(synapse.kind in ("conv2d", "sumpool") for synapse, _ in self.synapses)

    @property
    def dense(self) -> bool:
        """Whether it becomes a dense layer."""
        return bool(self.synapses) and all(synapse.kind == "linear" for synapse, _ in self.synapses)

    @property
    def flattens(self) -> bool:
        """Whether a dense layer reads planes."""
        return not self.conv and len(self.source_shape) > 1


def stages(program: Program) -> tuple[list[Stage], list[str]]:
    """The somas one behind the other, and what is no chain."""
    bad = [
        f"{node.name}: {type(node).__name__} nodes have no NetX layer"
        for node in program.nodes
        if isinstance(node, (Host, Product))
    ]
    if len(program.inputs) != 1:
        bad.append(f"the program has {len(program.inputs)} inputs; NetX takes one")
    by_name = {node.name: node for node in program.nodes}
    chain: list[Stage] = []
    before = program.inputs[0].name
    left = list(program.somas)
    while left:
        soma = next((s for s in left if before in _read_by(program, s)), left[0])
        left.remove(soma)
        found, sources = [], set()
        back: list[Synapse] = []
        for edge in program.into[soma.name]:
            synapse = by_name[edge.src]
            if isinstance(synapse, Synapse):
                (into,) = program.into[synapse.name]
                delay = int(into.delay) + int(edge.delay)
                if into.src == soma.name and synapse.kind == "linear" and delay == 1:
                    back.append(synapse)
                    continue
                sources.add(into.src)
                if into.src == before:
                    found.append((synapse, delay))
        if sources - {before}:
            shown = ", ".join(sorted(sources))
            bad.append(
                f"{soma.name}: reads {shown}, not only {before}; NetX says one chain without branches or loops, "
                "but those of dense layers with a delay of 1"
            )
        chain.append(
            Stage(soma=soma, synapses=tuple(found), source_shape=tuple(program.shapes[before]), back=tuple(back))
        )
        before = soma.name
    for output in program.outputs:
        if (source := program.into[output.name][0].src) != before:
            bad.append(f"{output.name}: reads {source}; NetX gives the last layer, {before}")
    given = by_name[program.inputs[0].name]
    assert isinstance(given, Input)
    if given.offset is not None and np.any(given.offset):
        bad.append(
            f"{given.name}: subtracts {np.asarray(given.offset).ravel().tolist()[:4]} from raw values; NetX does not"
        )
    return chain, bad


def _read_by(program: Program, soma: Soma) -> set[str]:
    """Names of what the synapses of a soma read."""
    return {into.src for edge in program.into[soma.name] for into in program.into[edge.src]}


def synapse_fields(stage: Stage) -> tuple[dict[str, Any], list[str]]:
    """The weights, geometry and delays of a layer, and what NetX would make something else of."""
    kinds = {synapse.kind for synapse, _ in stage.synapses}
    if not stage.synapses:
        return {}, ["nothing arrives from the layer before"]
    if len(kinds) > 1 and not stage.conv:
        return {}, [f"synapses of kinds {', '.join(sorted(kinds))} cannot share a layer"]
    if stage.conv:
        fields, bad = _conv(stage)
        return fields, bad + (["a convolution that hears itself; only dense layers do in NetX"] if stage.back else [])
    if kinds != {"linear"}:
        (kind,) = kinds
        article = "an" if kind[0] in "aeiou" else "a"
        behind = " behind another layer" if kind == "identity" else ""
        return {}, [f"{article} {kind} synapse{behind} has no NetX layer; only linear, conv2d and sumpool have"]
    return _dense(stage)


def _dense(stage: Stage) -> tuple[dict[str, Any], list[str]]:
    weight, delay, bad = _joined(stage)
    matrices = {"weight": weight}
    if stage.back:
        matrices["weight_rec"] = np.sum([s.dense() << s.exponent for s in stage.back], axis=0)
        if delay.any():
            bad.append("delays besides a loop, where NetX loses the exponent of its weights")
    for found in netx_joined_weights(list(matrices.values())):
        if found.refusal or found.changes:
            bad.append(found.refusal or found.changes)
    if delay.max() > MAX_DELAY:
        bad.append(f"delay {delay.max()} is beyond NetX's {MAX_DELAY}")
    shape = (int(np.prod(stage.soma.shape)),)
    fields: dict[str, Any] = {"type": "dense_rec" if stage.back else "dense", "shape": np.array(shape), **matrices}
    fields |= {"inFeatures": weight.shape[1], "outFeatures": weight.shape[0]}
    if delay.any():
        uniform = bool((delay == delay.flat[0]).all())
        fields["delay"] = int(delay.flat[0]) if uniform else delay
    return fields, bad


def _joined(stage: Stage) -> tuple[IntArray, IntArray, list[str]]:
    """The sum of all linear synapses, the delay of every weight, and weights that have two delays."""
    bad: list[str] = []
    total: IntArray | None = None
    delays: IntArray | None = None
    for synapse, delay in stage.synapses:
        part = synapse.dense() << synapse.exponent
        if total is None or delays is None:
            total, delays = part.astype(np.int64), np.full(part.shape, delay, np.int64)
            continue
        if ((part != 0) & (total != 0) & (delays != delay)).any():
            bad.append(f"{synapse.name}: some weights have two delays; NetX has one for each")
        delays = np.where(part != 0, delay, delays)
        total = total + part
    assert total is not None
    assert delays is not None
    return total, delays, bad


def _conv(stage: Stage) -> tuple[dict[str, Any], list[str]]:
    bad = [f"{s.name}: a delayed convolution has no NetX layer" for s, delay in stage.synapses if delay]
    if len(stage.source_shape) != 3:
        return {}, [*bad, f"convolves a source of shape {list(stage.source_shape)}; NetX takes [C, H, W]"]
    made = [_kernel(s, stage.source_shape[0]) for s, _ in stage.synapses]
    geometry = {key: made[0][key] for key in GEOMETRY}
    if any(
        part[key] != geometry[key] or part["weight"].shape != made[0]["weight"].shape
        for part in made
        for key in GEOMETRY
    ):
        bad.append("synapses of different geometry cannot share a layer")
        return {}, bad
    weight = sum(part["weight"] for part in made)
    numbers = [*weight.shape[2:], *geometry["stride"], *geometry["padding"], *geometry["dilation"]]
    if max(numbers) > INT8:
        bad.append(f"kernel, stride, padding or dilation is beyond the 8 bits of NetX ({max(numbers)})")
    return {
        "type": "conv",
        "shape": np.array(stage.soma.shape),
        "weight": weight,
        "inChannels": stage.source_shape[0],
        "outChannels": weight.shape[0],
        "kernelSize": np.array(weight.shape[2:]),
        "groups": geometry["groups"],
        **{key: np.array(geometry[key]) for key in ("stride", "padding", "dilation")},
    }, bad


def _kernel(synapse: Synapse, channels: int) -> dict[str, Any]:
    """A convolution, or a sum-pool as one; more groups than 8 bits hold become one group with zeros."""
    if synapse.kind == "sumpool":
        scale = np.broadcast_to(np.asarray(synapse.weight).reshape(-1), (channels,))
        weight = np.broadcast_to(scale[:, None, None, None], (channels, 1, *synapse.kernel_size)).copy()
        groups = channels
    else:
        weight, groups = np.asarray(synapse.dense()), synapse.groups
    if groups > INT8:
        outputs, inputs = weight.shape[:2]
        full = np.zeros((outputs, inputs * groups, *weight.shape[2:]), np.int64)
        per = outputs // groups
        for o in range(outputs):
            full[o, o // per * inputs : (o // per + 1) * inputs] = weight[o]
        weight, groups = full, 1
    return {
        "weight": weight.astype(np.int64) << synapse.exponent,
        "stride": tuple(synapse.stride),
        "padding": tuple(synapse.padding),
        "dilation": tuple(synapse.dilation),
        "groups": int(groups),
    }
