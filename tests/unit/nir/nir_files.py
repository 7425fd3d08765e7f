"""Small `.nir` files for tests, written node by node with h5py."""

from __future__ import annotations

from itertools import pairwise

import h5py
import numpy as np


def graph(nodes, edges):
    return {"type": "NIRGraph", "nodes": nodes, "edges": edges}


def write(path, nodes, edges, *, version="1.0.8"):
    """A file of these nodes (name -> fields with a `type`, or a graph) and edges."""
    with h5py.File(path, "w") as file:
        file["version"] = version
        _group(file.create_group("node"), graph(nodes, edges))
    return path


def _group(group, fields):
    for key, value in fields.items():
        if key == "edges":
            data = np.array([list(e) for e in value], dtype=object).reshape(-1, 2)
            group.create_dataset("edges", data=data, dtype=h5py.string_dtype())
        elif isinstance(value, dict):
            _group(group.create_group(key), value)
        elif isinstance(value, str):
            group.create_dataset(key, data=value, dtype=h5py.string_dtype())
        elif isinstance(value, np.ndarray) and value.ndim:
            group.create_dataset(key, data=value, compression="gzip")
        else:
            group.create_dataset(key, data=value)


def given(*shape):
    return {"type": "Input", "shape": np.array(shape)}


def read(*shape):
    return {"type": "Output", "shape": np.array(shape)}


def linear(weight, bias=None):
    fields = {"type": "Linear" if bias is None else "Affine", "weight": np.asarray(weight, np.float32)}
    return fields if bias is None else {**fields, "bias": np.asarray(bias, np.float32)}


def lif(*shape, tau=4e-4, r=4.0, theta=1.0, v_leak=0.0, v_reset=0.0):
    values = {"tau": tau, "r": r, "v_threshold": theta, "v_leak": v_leak, "v_reset": v_reset}
    return {"type": "LIF", **{k: np.full(shape, v, np.float32) for k, v in values.items()}}


def cuba(*shape, tau_syn=2e-4, tau_mem=4e-4, theta=1.0):
    r, w_in = tau_mem / 1e-4, tau_syn / 1e-4
    values = {"tau_syn": tau_syn, "tau_mem": tau_mem, "r": r, "w_in": w_in, "v_threshold": theta}
    values |= {"v_leak": 0.0, "v_reset": 0.0}
    return {"type": "CubaLIF", **{k: np.full(shape, v, np.float32) for k, v in values.items()}}


def chain(*names):
    return list(pairwise(names))


def small(path, **more):
    """A perceptron of two layers; `more` replaces or adds nodes (None removes one)."""
    rng = np.random.default_rng(2)
    nodes = {
        "input": given(5),
        "fc1": linear(rng.normal(size=(6, 5)), rng.normal(size=6)),
        "lif1": lif(6),
        "fc2": linear(rng.normal(size=(3, 6))),
        "lif2": lif(3),
        "output": read(3),
    }
    edges = more.pop("edges", chain("input", "fc1", "lif1", "fc2", "lif2", "output"))
    nodes |= more
    return write(path, {k: v for k, v in nodes.items() if v is not None}, edges)
