"""Write a program as a lava-dl `.net` file that `lava.lib.dl.netx.hdf5.Network` loads unmodified, with equal spikes.

NetX says one chain of dense and conv layers with binary spikes and its LIF neuron (`snn2chip.frontends.netx_soma`):

    u = wrap24(trunc(u * (4096 - iDecay) / 4096) + 64 a);  v = sat24(trunc(v * (4096 - vDecay) / 4096) + u + 64 bias)
    spike where v > 64 vThMant, then v = 0

dense layers that hear themselves a step later, and sigma-delta networks in NetX's machine time (`netx_changes`).
A soma in those registers goes as it is. One with gain g and leaks of 0 or 4096 is scaled by 64/g, which is exact as
long as nothing saturates or wraps (proven from the ranges): bias/g must be whole, and v >= theta is
v > 64 (ceil(theta/g) - 1) on multiples of 64. Everything else is refused, all of it at once. Weights are
those that NetX really multiplies with (`netx_weights`). Sources: lava-dl 0.6.0 (netx), lava-nc 0.10.0.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from snn2chip.errors import UnsupportedError
from snn2chip.interop.netx_changes import (
    change_fields,
    encoder_fields,
    is_encoder,
    prompt,
    sends_changes,
    spike_exponent,
)
from snn2chip.interop.netx_input import entry_fields, is_entry
from snn2chip.interop.netx_layers import Stage, stages, synapse_fields
from snn2chip.interop.netx_neurons import neuron_fields
from snn2chip.ir.files import replacing
from snn2chip.ir.program import Program
from snn2chip.origin import about, origin


def export_netx(program: Program, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Write `program` to `path` and return how to run it.

    Raises UnsupportedError that lists everything NetX cannot say, with its node and the user's own layer.
    """
    chain, breaches = stages(program)
    spike_exp = spike_exponent(chain) if sends_changes(chain) else None
    if spike_exp is not None:
        chain, late = prompt(chain)
        breaches += late
    encoded = spike_exp is not None and is_encoder(chain[0])
    entered = encoded or (bool(chain) and is_entry(chain[0]))
    layers: list[dict[str, Any]] = []
    for index, stage in enumerate(chain):
        fields, bad = _layer(program, stage, encoded=encoded, first=entered and not index)
        neuron, worse = _neuron(program, stage, spike_exp, first=entered and not index, last=stage is chain[-1])
        breaches += [f"{stage.soma.name}{_user(stage)}: {text}" for text in (*bad, *worse)]
        if stage.conv and index and chain[index - 1].dense:
            breaches.append(f"{stage.soma.name}{_user(stage)}: a convolution behind a dense layer; NetX has no reshape")
        if bad or worse:
            continue
        if stage.conv and not index:
            layers.append({"type": "input", "shape": np.array(stage.source_shape)})
        if stage.flattens and index:
            layers.append({"type": "flatten", "shape": np.array([int(np.prod(stage.source_shape))])})
        layers.append({**fields, **neuron})
    if breaches:
        raise UnsupportedError(breaches)
    _write(path, layers, program=program)
    if spike_exp is not None:
        return _notes_of_changes(chain, spike_exp, encoded=encoded)
    return _notes_of_biases(program, chain) if entered else _notes(program, chain)


def _layer(program: Program, stage: Stage, *, encoded: bool, first: bool) -> tuple[dict[str, Any], list[str]]:
    if first:
        return encoder_fields(stage) if encoded else entry_fields(program, stage)
    return synapse_fields(stage)


def _neuron(
    program: Program, stage: Stage, spike_exp: int | None, *, first: bool, last: bool
) -> tuple[dict[str, Any], list[str]]:
    found = None if spike_exp is None else change_fields(program, stage, spike_exp, last=last)
    if found is not None:
        return found
    fields, bad = neuron_fields(program, stage.soma, channels=stage.conv or (first and len(stage.soma.shape) == 3))
    return {key: value for key, value in fields.items() if key == "neuron" or not first}, bad


def _user(stage: Stage) -> str:
    return f" ({stage.soma.layer})" if stage.soma.layer else ""


def _write(path: str | os.PathLike[str], layers: list[dict[str, Any]], *, program: Program) -> None:
    import h5py

    image = io.BytesIO()  # HDF5 brings the process down where a disk is full
    with h5py.File(image, "w") as file:
        file.attrs["snn2chip"] = json.dumps({**about(program), **origin()})
        group = file.create_group("layer")
        for index, layer in enumerate(layers):
            _fields(group.create_group(str(index)), layer)
        _fields(file.create_group("simulation"), {"Ts": 1, "tSample": program.steps})
    with replacing(path) as part:
        part.write_bytes(image.getbuffer())


def _fields(group: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            _fields(group.create_group(key), value)
        elif key == "type" and "vThMant" not in values:
            group.create_dataset(key, (1,), "S10", [str(value).encode("ascii")])
        else:
            group.create_dataset(key, data=value)


def _notes(program: Program, chain: list[Stage]) -> tuple[str, ...]:
    """What NetX does not store: the input's bits, when samples end, and where the result appears."""
    given = program.inputs[0]
    lo, hi = given.payload_type().lo, given.payload_type().hi
    looped = any(stage.back for stage in chain)
    graded = "" if (lo, hi) == (0, 1) else f", input_message_bits={max(-lo, hi).bit_length() + 1}"
    flat = chain[0].source_shape if not chain[0].conv else chain[0].source_shape[::-1]
    shape = tuple(int(n) for n in flat) if chain[0].conv else (int(np.prod(flat)),)
    return (
        f"run: netx.hdf5.Network(FILE, reset_interval={program.steps}, reset_offset=1, input_shape={shape}{graded})",
        f"layer k (from 1) does logical step t in machine step t + k; the last of {len(chain)} layers ends a sample "
        f"{program.steps + len(chain)} steps after its start; values of conv layers are in the order (W, H, C)",
        "before its first input a layer of NetX already integrates its bias: leave those k steps out",
        *(["a loop of NetX carries the last spikes of a sample into the next: run samples apart"] if looped else []),
    )


def _notes_of_biases(program: Program, chain: list[Stage]) -> tuple[str, ...]:
    """The same for networks whose input is the bias of their first neurons."""
    return (
        f"run: netx.hdf5.Network(FILE, reset_interval={program.steps}); a sample is set as "
        "net.in_layer.neuron.bias_mant, in the order (W, H, C)",
        f"layer k (from 0, the input) does logical step t in machine step t + k; the last of {len(chain)} layers ends "
        f"a sample {program.steps + len(chain) - 1} steps after its start",
        *_notes(program, chain)[2:],
    )


def _notes_of_changes(chain: list[Stage], spike_exp: int, *, encoded: bool) -> tuple[str, ...]:
    """The same for sigma-delta networks, whose steps are NetX's own."""
    bits = "" if encoded else ", input_message_bits=24"
    return (
        f"run: netx.hdf5.Network(FILE, spike_exp={spike_exp}{bits}); the input goes into "
        + ("net.in_layer.neuron.a_in" if encoded else "net.inp"),
        "logical step t is NetX's step t + 1; it never resets sigma-delta neurons: run samples apart",
        f"sums ({', '.join(s.soma.name for s in chain if s.soma.syn_leak is not None) or 'none'}) have 32 bits there, "
        "24 on the chip and here",
    )
