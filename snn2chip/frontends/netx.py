"""lava-dl's NetX network files (`.net`) as integer programs, without lava: `import_netx(path, steps=16)`.

One layer becomes a synapse and a current-based LIF soma with Loihi's registers. NetX runs in machine time, where every
synapse costs a step and layer k starts k steps late; a program runs in logical time, so layer k's step t here is
machine step t + k there (from 0; input neurons, if the file has them, are layer 0). Two things follow. Lava's layers
integrate their bias before their first input arrives and may send a few spikes then; a program's do not. And a reset
that Lava staggers by layer is here simply the start of a sample, or every `reset_interval` steps inside one.

An input layer with neurons takes bias mantissas `[B, C, H, W]` (see `netx_input`), constant over the sample; a network
that starts with a synapse takes spikes `[T, B, ...]`. Sigma-delta networks (`netx_delta`) take integers of every step.
NetX never resets them, and what their biases send before the first input arrives is floored on its own and changes the
result; so they are read in NetX's machine time (`pipelined`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from snn2chip.errors import FileFormatError, InputError, ProgramError
from snn2chip.frontends.netx_build import Build
from snn2chip.frontends.netx_delta import SDNN, SPIKE_EXPS
from snn2chip.frontends.netx_fields import unknown_fields
from snn2chip.frontends.netx_file import read_net
from snn2chip.frontends.netx_issues import IGNORABLE, Issues
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray

NUMBERS = ("netx", "file")
MAX_STEPS = 1 << 20


def import_netx(
    path: str | os.PathLike[str],
    *,
    steps: int | None = None,
    reset_interval: int | None = None,
    num_layers: int | None = None,
    skip_layers: int = 0,
    input_shape: tuple[int, ...] | None = None,
    input_range: tuple[int, int] = (0, 1),
    numbers: str = "netx",
    ignore: Collection[str] = (),
    spike_exp: int = 6,
    pipelined: bool | None = None,
) -> Program:
    """Read a `.net` file as a program of `steps` logical steps per sample (default: the file's own tSample / Ts).

    `reset_interval` also clears all state inside a sample, every so many steps. `num_layers` and `skip_layers` take
    part of the description, as in NetX. `input_shape` (torch order) and `input_range` describe the payloads of a
    network that starts with a synapse; beyond 0 and 1 they are NetX's graded input (input_message_bits > 0).
    `numbers="netx"` computes what NetX computes, also where it changes weights; `"file"` takes the file's own
    integers. `ignore` names fields that NetX reads past and this importer otherwise refuses: refDelay, wgtExp,
    weight_exp, gradedSpike, activation, delay (of a conv layer), and any that nothing knows. `spike_exp` is NetX's: the
    fraction bits of what sigma-delta neurons send.
    `pipelined`: every synapse takes a logical step, as in NetX, so that layers send what their biases make before their
    first input arrives (default: where there are sigma-delta neurons). What NetX changed is noted in `meta["notes"]`.
    Raises FileFormatError for a damaged file, UnsupportedError listing every layer that cannot be imported.
    """
    lengths = {"steps": steps, "reset_interval": reset_interval, "num_layers": num_layers}
    _check_options(lengths, skip_layers, input_range, numbers)
    net = read_net(path)
    unknown = {field for layer in net.layers for field in unknown_fields(layer)}
    if bad := [name for name in ignore if name not in IGNORABLE and name not in unknown]:
        raise InputError([f"{path}: has no field {name!r} to ignore; known: {', '.join(IGNORABLE)}" for name in bad])
    steps = steps or net.sample_steps
    if steps is None or steps > MAX_STEPS:
        raise InputError(f"{path}: the file names no usable sample length (/simulation/tSample); pass steps=")
    issues = Issues(ignore=ignore)
    if spike_exp not in SPIKE_EXPS:
        raise InputError(f"spike_exp must be a whole number in 0..{SPIKE_EXPS[-1]}, got {spike_exp!r}")
    if pipelined is None:
        pipelined = any(layer.neuron is not None and layer.neuron.type == SDNN for layer in net.layers[:num_layers])
    build = Build(steps, reset_interval, input_range, numbers == "file", issues, input_shape, spike_exp, pipelined)
    for layer in net.layers[:num_layers]:
        build.add(layer, skip=layer.index < skip_layers)
    issues.raise_if_any(path)
    if not build.somas:
        raise InputError(f"{path}: no layer with neurons is left between skip_layers and num_layers")
    try:
        return build.program(Path(path).stem, net)
    except ProgramError as error:
        raise FileFormatError(f"{path}: the network in this file is not valid: {error}") from error


def netx_input(program: Program, samples: Any) -> IntArray:
    """Bias mantissas of raw samples: `trunc(weight * x + bias)` with the numbers of the file's input layer.

    `samples [B, ...]` are in the range the network was trained on (lava-dl: usually 0..1 or -1..1). Raises InputError
    for a program whose input layer has no neurons.
    """
    transform = program.meta.get("input_transform")
    if transform is None:
        raise InputError("this program takes spikes; only an input layer with neurons has an input transform")
    raw = np.asarray(samples, dtype=np.float64)
    return np.trunc(raw * transform["weight"] + transform["bias"]).astype(np.int64)


def _check_options(lengths: Mapping[str, int | None], skip: int, payload: tuple[int, int], numbers: str) -> None:
    bad = [
        f"{name} must be a whole number in 1..{MAX_STEPS}, got {value!r}"
        for name, value in lengths.items()
        if value is not None and (not isinstance(value, int) or not 1 <= value <= MAX_STEPS)
    ]
    if not isinstance(skip, int) or skip < 0:
        bad.append(f"skip_layers must be a whole number of at least 0, got {skip!r}")
    if not payload[0] <= 0 <= payload[1] or payload[0] == payload[1]:
        bad.append(f"input_range must contain 0 and another value, got {payload}")
    if numbers not in NUMBERS:
        bad.append(f"numbers must be one of {', '.join(NUMBERS)}, got {numbers!r}")
    if bad:
        raise InputError(bad)
