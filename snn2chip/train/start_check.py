"""Whether a network may go on from a checkpoint: what no tensor says must agree too.

Levels, steps and v(0) of neurons and the normalisation of the input are in no state_dict; weights that fit by names
and shapes alone would silently start another network.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from snn2chip.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from snn2chip.checkpoint_header import CheckpointHeader, InputSpec

SAID = ("steps", "levels", "v_init")


def check_start(
    model: nn.Module,
    source: nn.Module,
    header: CheckpointHeader | None,
    *,
    spec: InputSpec,
    path: str | os.PathLike[str],
) -> None:
    """Raise InputError that lists how `model` and the checkpoint's own network differ, tensors aside."""
    from snn2chip.checkpoint import GRAPH
    from snn2chip.nn.base import Neuron

    if header is not None and header.model == GRAPH:
        raise InputError(
            f"{path}: a converted network has no parameters to train; train its source, or convert it with "
            "--method hybrid and train that"
        )
    breaches = []
    own = dict(source.named_modules())
    for name, neuron in model.named_modules():
        given = own.get(name)
        if not isinstance(neuron, Neuron) or not isinstance(given, Neuron) or type(given) is not type(neuron):
            continue  # other neurons have other tensors, which loading lists
        breaches += [
            f"{name}: the recipe says {key}={getattr(neuron, key)!r}, the weights belong to {getattr(given, key)!r}"
            for key in SAID
            if getattr(neuron, key, None) != getattr(given, key, None)
        ]
    if header is not None:
        breaches += [
            f"input: the recipe says {key}={getattr(spec, key)}, the weights belong to {getattr(header.input, key)}"
            for key in ("scale", "mean", "std")
            if getattr(spec, key) != getattr(header.input, key)
        ]
    if breaches:
        raise InputError([f"{path}: {text}" for text in breaches])
