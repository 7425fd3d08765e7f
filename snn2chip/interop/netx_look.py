"""What a `.net` file describes, layer by layer, before anything is decided about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snn2chip.frontends.netx_file import WHOLE, LayerSpec, NeuronSpec, read_net


def look(path: Path) -> dict[str, Any]:
    """Layers with kinds, shapes, stored arrays and neurons of a NetX file, as a JSON-able description.

    Raises FileFormatError for a file that is damaged or no `.net` file.
    """
    net = read_net(path)
    layers = [_layer(layer) for layer in net.layers]
    lines = [f"{path.stem}: {len(layers)} layers of a NetX file"]
    for layer in layers:
        options = [f"{name} {value}" for name, value in layer["options"].items()]
        arrays = ", ".join([*options, *(f"{name} {tuple(size)}" for name, size in layer["arrays"].items())])
        shape = "" if layer["shape"] is None else f" {tuple(layer['shape'])}"
        lines.append(f"  {layer['index']} {layer['kind']}{shape}" + (f": {arrays}" if arrays else ""))
        if layer["neuron"] is not None:
            fields = ", ".join(f"{name}={value}" for name, value in layer["neuron"]["fields"].items())
            lines.append(f"      {layer['neuron']['type']} neuron: {fields}")
    steps = net.sample_steps
    notes = [f"the file resets its neurons every {steps} steps"] if steps else []
    return {"kind": "network", "name": path.stem, "layers": layers, "notes": notes, "text": "\n".join(lines)}


def _layer(layer: LayerSpec) -> dict[str, Any]:
    arrays = {name: value for name, value in layer.numbers.items() if name not in WHOLE and value.ndim}
    return {
        "index": layer.index,
        "kind": layer.kind,
        "shape": None if layer.shape is None else list(layer.shape),
        "options": {name: value.tolist() for name, value in layer.numbers.items() if name in WHOLE},
        "arrays": {name: list(value.shape) for name, value in arrays.items()},
        "neuron": None if layer.neuron is None else _neuron(layer.neuron),
    }


def _neuron(neuron: NeuronSpec) -> dict[str, Any]:
    fields = {name: value.tolist() if value.size > 1 else int(value.reshape(-1)[0]) for name, value in
              neuron.fields.items() if value.size}  # fmt: skip
    return {"type": neuron.type, "activation": neuron.activation, "fields": fields}
