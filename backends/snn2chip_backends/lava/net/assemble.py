"""From a plan (plain JSON values and arrays) to live Lava processes.

A plan has `processes` (`{"name", "kind", "args"}`, arrays given as `{"array": key}` or `{"csr": key, "shape"}`),
`wires` (`[source, port, target, port, operations]`), and the machine time `steps`, `stretch`, `latency`.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

OWN = {
    "soma": ("soma", "Soma"),
    "synapse": ("synapse", "Synapse"),
    "wide-synapse": ("synapse", "WideSynapse"),
    "product": ("product", "Product"),
    "wide-product": ("product", "WideProduct"),
    "delay": ("delay", "Delay"),
    "wide-delay": ("delay", "WideDelay"),
    "source": ("source", "Source"),
    "entry": ("entry", "Entry"),
    "sink": ("sink", "Sink"),
}
STOCK = {
    "Dense": "lava.proc.dense.process",
    "Sparse": "lava.proc.sparse.process",
    "Conv": "lava.proc.conv.process",
    "LIF": "lava.proc.lif.process",
    "LIFReset": "lava.proc.lif.process",
    "GradedVec": "lava.proc.graded.process",
}
BLOCKS = ("feed", "block", "keep")
"""Kinds of the layouts `layer` and `fused`, which carry a batch of samples in every message."""
TIMED = ("soma", "delay", "wide-delay", "sink", "block", "keep")
"""Kinds that must know how many samples come."""
SINKS = ("sink", "keep")


def process_class(kind: str, args: Mapping[str, Any]) -> Any:
    """The Lava process class of a plan's `kind`: own, stock, or `FILE.py:Class` / `module:Class`.

    A function in the place of a class makes one for `args`.
    """
    if kind in BLOCKS:
        return importlib.import_module(f"{__package__}.processes.block.process").ported(kind, args)
    if kind in STOCK:
        return getattr(importlib.import_module(STOCK[kind]), kind)
    if kind in OWN:
        folder, cls = OWN[kind]
        return getattr(importlib.import_module(f"{__package__}.processes.{folder}.process"), cls)
    where, _, cls = kind.rpartition(":")
    if not where.endswith(".py"):
        return fitting(getattr(importlib.import_module(where), cls), args)
    name = f"substitute_{Path(where).parent.name}_{Path(where).stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, where)
        if spec is None or spec.loader is None or not Path(where).is_file():
            raise ImportError(f"no process module {where}")
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return fitting(getattr(sys.modules[name], cls), args)


def fitting(found: Any, args: Mapping[str, Any]) -> Any:
    """A class as it is; what a function makes for these arguments."""
    return found if isinstance(found, type) else found(args)


def resolve(value: Any, arrays: Mapping[str, Any]) -> Any:
    """Replace array references inside one argument."""
    if isinstance(value, dict) and "array" in value:
        return np.array(arrays[value["array"]])
    if isinstance(value, dict) and "csr" in value:
        from scipy.sparse import csr_matrix

        parts = tuple(np.array(arrays[f"{value['csr']}.{p}"]) for p in ("data", "indices", "indptr"))
        return csr_matrix(parts, shape=tuple(value["shape"]))
    if isinstance(value, dict):
        return {k: resolve(v, arrays) for k, v in value.items()}
    return [resolve(v, arrays) for v in value] if isinstance(value, list) else value


def assemble(
    plan: Mapping[str, Any],
    arrays: Mapping[str, Any],
    *,
    samples: int = 0,
    extra: Mapping[str, Mapping[str, Any]] | None = None,
    prefix: str = "",
    constant: Sequence[str] = (),
) -> dict[str, Any]:
    """Make and connect all processes of a plan; returns them by their name in the plan.

    `samples=0` runs without end; `extra[process]` adds arguments known only now (files); `prefix` goes before
    the processes' Lava names; `constant` names inputs whose samples are the same at all steps.
    """
    made: dict[str, Any] = {}
    for item in plan["processes"]:
        args = {k: tuple(v) if k.endswith("shape") else v for k, v in resolve(item["args"], arrays).items()}
        args.update((extra or {}).get(item["name"], {}))
        kind = item.get("like", item["kind"])  # a substitute takes the arguments of what it stands for
        if kind in TIMED:
            args["samples"] = samples
        if kind in BLOCKS:
            args["batch"] = plan["batch"]
        if kind == "block":
            args["constant"] = list(constant)
        if kind == "feed":
            args["constant"] = item["name"] in constant
        if item["kind"] in ("Dense", "Sparse"):
            prove_weights(item["name"], args["weights"])
        if item["kind"] != "GradedVec":  # it takes no name
            args["name"] = prefix + item["name"]
        made[item["name"]] = process_class(item["kind"], args)(**args)
        made[item["name"]].name = prefix + item["name"]
    for source, out_name, target, in_name, operations in plan["wires"]:
        port = getattr(made[source], out_name)
        for operation, value in operations:
            port = getattr(port, operation)(tuple(value))
        port.connect(getattr(made[target], in_name))
    return made


def tie(sinks: list[Any]) -> None:
    """Connect sinks in a row (nothing is ever sent there), so that one runtime holds all their networks."""
    for i, sink in enumerate(sinks[1:]):
        sinks[i].link_out.connect(sink.link_in)


def same_at_all_steps(frames: Any) -> bool:
    """Whether payloads `[T, N, *shape]` do not change within a sample."""
    return frames.strides[0] == 0 or all(np.array_equal(frame, frames[0]) for frame in frames[1:])


def empty_file(path: str | Path, dtype: str, shape: tuple[int, ...]) -> None:
    """A .npy file of zeros that takes no room until it is written."""
    open_memmap: Any = np.lib.format.open_memmap
    open_memmap(str(path), mode="w+", dtype=dtype, shape=shape)


def prove_weights(name: str, weights: Any) -> None:
    """Raise unless Lava's own clipping and truncation leave `weights` as they are."""
    from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

    mode = determine_sign_mode(weights)
    kept = truncate_weights(clip_weights(weights, mode, num_bits=8), mode, 8)
    if abs(kept - weights).max() != 0:
        raise ValueError(f"{name}: Lava would change these weights ({mode})")


def write_plan(
    folder: str | Path, plan: Mapping[str, Any], arrays: Mapping[str, Any], *, compress: bool = False
) -> None:
    """Write `network.json` and `weights.npz`."""
    import json

    Path(folder, "network.json").write_text(json.dumps(plan, indent=1, sort_keys=True))
    image = io.BytesIO()  # an archive on a full disk complains twice
    (np.savez_compressed if compress else np.savez)(image, **arrays)
    Path(folder, "weights.npz").write_bytes(image.getbuffer())


def read_plan(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what `write_plan` wrote (no pickle)."""
    import json

    plan = json.loads(Path(folder, "network.json").read_text())
    with np.load(str(Path(folder, "weights.npz")), allow_pickle=False) as data:
        return plan, {k: data[k] for k in data.files}
