"""Random float networks of every kind of neuron, and the same networks in rational numbers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from snn2chip.ir.channel_layers import ScaleLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import AddLayer, FloatSoma, InputLayer, Layer, OutputLayer
from snn2chip.ir.linear_layers import LinearLayer
from snn2chip.ir.neuron_layer import NeuronLayer

Rng = np.random.Generator
SIZES = (5, 8, 7, 4)


def _t(value: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(value), dtype=torch.float64)


def lif(rng: Rng) -> dict[str, Any]:
    return {"leak": rng.uniform(0.3, 0.99), "levels": 1, "v_init": rng.uniform(0, 0.3)}


def hard(rng: Rng) -> dict[str, Any]:
    return {"leak": rng.uniform(0.3, 0.99), "reset": "zero", "bias": rng.normal(size=1) * 0.05}


def lmht(rng: Rng) -> dict[str, Any]:
    return {"leak": rng.uniform(0.4, 1.0), "levels": 4, "window": _t(rng.uniform(-0.2, 0.8, (3, 3)))}


def qcfs(rng: Rng) -> dict[str, Any]:
    theta = rng.uniform(0.2, 0.5)
    return {"theta": theta, "unit": theta, "v_init": theta / 2, "v_init_rule": "half-theta", "steps": 1, "levels": 4}


def ladder(rng: Rng) -> dict[str, Any]:
    rows = np.sort(rng.uniform(-0.1, 1.5, (4, 1)), axis=0) + rng.normal(size=(1, 1)) * 0.1
    return {"fire": "ladder", "reset": "drop", "ladder": _t(rows), "steps": 1, "levels": 4, "unit": 0.37}


def parallel(rng: Rng) -> dict[str, Any]:
    theta = np.sort(rng.uniform(0.2, 2.0, (3, 1)), axis=0)[::-1].copy()
    return {"reset": "drop", "theta": _t(theta), "unit": 0.3, "levels": 1, "window": torch.ones(3, 3).double()}


def empf(rng: Rng) -> dict[str, Any]:
    return {
        "fire": "excess",
        "reset": str(rng.choice(["clamp", "drop", "zero"])),
        "leak": _t(rng.uniform(-0.3, 0.9, (3, 1))),
        "theta": _t(rng.uniform(0.1, 0.4, (3, 1))),
        "gain": _t(rng.uniform(0.6, 1.4, (3, 1))),
        **({"unit": 0.11, "out_max": 15} if rng.random() < 0.6 else {"unit": 1.0}),
    }


KINDS: dict[str, Callable[[Rng], dict[str, Any]]] = {
    f.__name__: f for f in (lif, hard, lmht, qcfs, ladder, parallel, empf)
}


def net(kind: str, seed: int, *, residual: bool = False) -> tuple[LayerGraph, Any]:
    """input [5] -> linear -> neurons -> linear (+ linear or identity) -> neurons -> linear -> output; and samples."""
    rng = np.random.default_rng(seed)
    a, b, c, d = SIZES if not residual else (5, 8, 8, 4)
    first, second = KINDS[kind](rng), KINDS[kind](rng)
    steps = int(first.get("steps", 3))

    def linear(name: str, out: int, n: int, size: float) -> Layer:
        bias = _t(rng.normal(size=out) * 0.1) if rng.random() < 0.7 else None
        return LinearLayer(name=name, path=f"net.{name}", weight=_t(rng.normal(size=(out, n)) * size), bias=bias)

    def neurons(name: str, fields: dict[str, Any]) -> Layer:
        soma = FloatSoma(**{"steps": steps, "theta": 0.6, "unit": 0.6, **fields})
        return NeuronLayer(name=name, path=f"net.{name}", soma=soma)

    layers: list[Layer] = [InputLayer(name="x", shape=(a,)), linear("f1", b, a, 0.06), neurons("n1", first)]
    layers.append(linear("f2", c, b, 0.5))
    edges: dict[str, tuple[str, ...]] = {"f1": ("x",), "n1": ("f1",), "f2": ("n1",), "n2": ("f2",)}
    if residual:
        other = rng.random() < 0.5
        branch = linear("side", c, b, 0.2) if other else ScaleLayer(name="side", path="net.side", factor=_t(0.7))
        layers += [branch, AddLayer(name="sum", path="net.sum")]
        edges |= {"side": ("n1",), "sum": ("f2", "side"), "n2": ("sum",)}
    layers += [neurons("n2", second), linear("fc", d, c, 0.3), OutputLayer(name="output")]
    graph = LayerGraph(layers=tuple(layers), inputs={**edges, "fc": ("n2",), "output": ("fc",)}, steps=steps)
    return graph, rng.integers(0, 16, (24, a))


def exact(value: Any) -> Any:
    """An array of rationals from any array or tensor of floats or integers."""
    array = value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)
    return np.vectorize(lambda v: Fraction(float(v)), otypes=[object])(array)


def exact_current(graph: LayerGraph, name: str, sources: dict[str, Any]) -> Any:
    """Current `[T, B, N]` of a map or a sum in rationals, of source values `[T, B, N]` in rationals."""
    layer = graph.layer(name)
    if layer.kind == "add":
        return sum(exact_current(graph, part, sources) for part in graph.inputs[name])
    x = sources[graph.inputs[name][0]]
    if isinstance(layer, ScaleLayer):
        return x * exact(layer.factor)
    assert isinstance(layer, LinearLayer)
    return x @ exact(layer.weight).T + (0 if layer.bias is None else exact(layer.bias))


def exact_run(f: FloatSoma, current: Any) -> tuple[Any, Any]:
    """Potentials before firing and payload codes `[T, B, N]` of a float soma in rationals."""
    fields = {k: exact(getattr(f, k)) for k in ("leak", "gain", "bias", "theta", "unit", "v_init")}

    def at(key: str, t: int) -> Any:
        v = fields[key]
        return v[t if len(v) > 1 else 0] if v.ndim == 2 else v

    if f.window is not None:
        current = np.tensordot(exact(f.window), current, 1)
    v = np.zeros(current.shape[1:], object) + at("v_init", 0)
    before, codes = [], []
    for t, i in enumerate(current):
        theta = at("theta", t)
        m = at("leak", t) * v + at("gain", t) * i + at("bias", t)
        s = np.zeros(m.shape, object)
        if f.fire == "levels":
            s = np.clip(np.floor_divide(m, theta), 0, f.levels)
        elif f.fire == "ladder":
            s = sum((m >= row).astype(int) for row in exact(f.ladder))
        elif f.fire == "excess":
            s = np.maximum(m - theta, 0)
        before.append(m)
        codes.append(s if f.fire != "excess" else np.clip(_floor(s / at("unit", t) + Fraction(1, 2)), 0, f.out_max))
        if f.reset == "subtract":
            v = m - s * theta
        elif f.reset == "clamp":
            v = np.minimum(m, theta)
        else:
            v = np.where(s > 0, 0, m) if f.reset == "zero" else np.zeros(m.shape, object) + Fraction(0)
    return np.stack(before), np.stack(codes)


def _floor(values: Any) -> Any:
    return np.vectorize(lambda v: v.__floor__(), otypes=[object])(values)
