"""A foreign checkpoint to a zoo model with our header: read, recognise, build, match every name, load or refuse."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn2chip.errors import FileFormatError, InputError

if TYPE_CHECKING:
    from torch import nn

    from snn2chip.checkpoint_header import CheckpointHeader, InputSpec
    from snn2chip.foreign.layouts import Layout
    from snn2chip.foreign.reading import ForeignFile

_HALF = "; some names start with `module.` and some do not"


def load_foreign(
    path: str | os.PathLike[str],
    *,
    model: str,
    args: Mapping[str, Any] | None = None,
    layout: str | None = None,
    input: InputSpec | None = None,  # the field's name in the header
    classes: Sequence[str] | None = None,
) -> tuple[nn.Module, CheckpointHeader]:
    """Load somebody else's weights into the zoo model `model`; return it in eval mode with a header to save it with.

    `args` are arguments of the model; what they leave open is read off the tensors (`snn2chip.foreign.arguments`),
    except the levels L. `layout`: lm-ht, qcfs or torchvision, recognised by names when None. A file does not say how
    its samples were normalised: `input` does, by default it is raw samples of the model's shape.

    Raises FileFormatError for an unreadable file and for names or shapes that do not fit, all of them listed: nothing
    is loaded in part. Raises InputError for a layout, model or arguments that do not go together.
    """
    import torch

    from snn2chip.checkpoint import build_model
    from snn2chip.checkpoint_tensors import strict_load
    from snn2chip.foreign.arguments import complete
    from snn2chip.foreign.layouts import layout_called
    from snn2chip.foreign.match import best, renamed, tables
    from snn2chip.foreign.plan import plan_of
    from snn2chip.foreign.reading import read_foreign

    known = None if layout is None else layout_called(layout)
    file = read_foreign(path)
    form = known or _recognise(file, path)
    full = complete(args or {}, model=model, layout=form, tensors=file.tensors)
    with torch.device("meta"):  # shapes only: what does not fit costs no memory
        bare = build_model(model, args=dict(full))
    own = {name: value for name, value in bare.state_dict().items() if isinstance(value, torch.Tensor)}
    table, bad = best(tables(plan_of(bare, name=model), form, own, name=model), own, file.tensors)
    if bad:
        hint = _HALF if file.half_prefixed else ""
        raise FileFormatError(
            f"{path}: {len(bad)} tensors do not fit {model} in layout {form.name}{hint}:\n"
            + "\n".join(f"  - {text}" for text in bad)
        )
    net = build_model(model, args=dict(full))
    strict_load(net, renamed(table, net.state_dict(), file.tensors), path=path)
    return net.eval(), _header(net, model, full, form, file, path, spec=input, classes=classes)


def _recognise(file: ForeignFile, path: str | os.PathLike[str]) -> Layout:
    from snn2chip.foreign.layouts import detect_layout

    try:
        return detect_layout(file.tensors)
    except InputError as error:
        raise InputError(f"{path}: {error}{_HALF if file.half_prefixed else ''}") from error


def _header(
    net: nn.Module,
    model: str,
    args: Mapping[str, Any],
    form: Layout,
    file: ForeignFile,
    path: str | os.PathLike[str],
    *,
    spec: InputSpec | None,
    classes: Sequence[str] | None,
) -> CheckpointHeader:
    from snn2chip.checkpoint_header import CheckpointHeader, InputSpec
    from snn2chip.nn.base import Neuron

    owner: Any = net
    neurons = [module for module in net.modules() if isinstance(module, Neuron)]
    names = tuple(classes or map(str, range(args["classes"])))
    breaches = []
    if len(names) != args["classes"]:
        breaches.append(f"classes: {len(names)} names for {args['classes']} outputs; give one for each")
    if spec is not None and (spec.shape, spec.time) != (tuple(owner.input_shape), owner.events):
        breaches.append(
            f"input: {list(spec.shape)}, time={spec.time}; {model} takes {list(owner.input_shape)}, time={owner.events}"
        )
    if breaches:
        raise InputError(breaches)
    return CheckpointHeader(
        model=model,
        args=dict(args),
        method="+".join(sorted({neuron.method for neuron in neurons})) or "relu",
        T=neurons[0].steps if neurons else 1,
        L=max((neuron.levels for neuron in neurons), default=1),
        input=spec or InputSpec(shape=owner.input_shape, time=owner.events),
        classes=names,
        provenance={"foreign": {"file": Path(path).name, "layout": form.name, "left_out": list(file.left_out)}},
    )
