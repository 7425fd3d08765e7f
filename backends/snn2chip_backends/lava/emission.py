"""Write a self-contained Lava package of a program: it runs with lava-nc alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from snn2chip.errors import InputError
from snn2chip.ir.nodes import Host, HostOp, Input
from snn2chip.ir.program import Program
from snn2chip.origin import about, origin
from snn2chip.writing import put_npz, replacing_tree
from snn2chip_backends.lava.backend import LavaBackend
from snn2chip_backends.lava.net.assemble import write_plan
from snn2chip_backends.lava.plan import Arrays, NetPlan

LAYOUT_TEXT = {
    "stock": "Layout `stock`: Lava's own processes wherever they are exact, one sample at a time.",
    "layer": "Layout `layer`: one own process per layer; {batch} samples ride in every message (`--batch N`).",
    "fused": "Layout `fused`: one own process for the whole network, a fast mode and no independent check of anything; "
    "{batch} samples ride in every message (`--batch N`).",
}
MARK = "snn2chip-emit.json"
PACKAGE = "lava_net"
RUN = '''"""Run this network on Lava: python run.py x.npz -o outputs.npz"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from lava_net.package import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(HERE))
'''


def emit(
    program: Program,
    out_dir: str | os.PathLike[str],
    *,
    golden: Any = None,
    stock: bool | str = True,
    layout: str = "stock",
    batch: int | None = None,
) -> Path:
    """Write `program` as a Lava package into `out_dir` and return that folder.

    The package holds the own process sources, `network.json`, `weights.npz` (no pickle), `run.py` and a README.
    `golden`: raw samples `[N, ...]` (a mapping by name for several inputs) that are stored with the outputs of
    the reference, so that `run.py --check` proves a copy. `stock`, `layout` and `batch` as for `LavaBackend`; the
    batch may be changed when the package runs. Written beside the target and renamed at the end.
    Raises InputError if `out_dir` holds anything but an earlier emit.
    """
    target = Path(out_dir)
    _refuse_foreign(target)
    if not program.outputs:
        raise InputError(f"{program.name}: has no Output, so an emitted package would give nothing; add one")
    backend = LavaBackend(stock=stock, layout=layout, batch=batch)
    plan = backend.plan(program, record="outputs")
    with replacing_tree(target, check=_refuse_foreign) as part:
        _write(part, program, plan, layout)
        if golden is not None:
            put_npz(part / "golden.npz", _golden(program, golden))
    return target


def _refuse_foreign(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InputError(f"{target}: is not a folder; choose another place for the Lava package")
    if target.is_dir() and any(target.iterdir()) and not (target / MARK).is_file():
        raise InputError(f"{target}: the folder is not empty and not an earlier emit; choose another or empty it")


def _write(folder: Path, program: Program, plan: NetPlan, layout: str) -> None:
    arrays = dict(plan.arrays)
    data = {
        **plan.data,
        "name": program.name,
        "lava_layout": layout,
        "channels": plan.channels,
        "inputs": [input_record(node, arrays) for node in program.inputs],
        "outputs": [{"name": o.name, "read": o.read, "source": program.into[o.name][0].src} for o in program.outputs],
        "layout": plan.table(),
    }
    write_plan(folder, data, arrays, compress=True)
    source = Path(__file__).parent / "net"
    shutil.copytree(source, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    (folder / "run.py").write_text(RUN)
    (folder / "README.md").write_text(_readme(program, plan, layout))
    said = {"emitted": "lava", **about(program), **origin()}
    (folder / MARK).write_text(json.dumps(said, indent=1) + "\n")


def input_record(node: Input | Host, arrays: Arrays) -> dict[str, Any]:
    """What turns raw samples into this input's payloads, in plain values."""

    def keep(key: str, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[f"{node.name}/{key}"] = value
            return {"array": f"{node.name}/{key}"}
        return list(value) if isinstance(value, tuple) else value

    host = isinstance(node, Host)
    return {
        "name": node.name,
        "shape": list(node.shape),
        "raw_shape": list(node.raw_shape),
        "lo": node.lo,
        "hi": node.hi,
        "coding": node.coding,
        "scale": node.scale,
        "host": host,
        "offset": keep("offset", node.offset),
        "ops": [
            {f.name: keep(f"op{i}.{f.name}", getattr(op, f.name)) for f in attrs.fields(HostOp)}
            for i, op in enumerate(node.ops if isinstance(node, Host) else ())
        ],
    }


def _golden(program: Program, samples: Any) -> dict[str, Any]:
    from snn2chip.api import run

    names = [node.name for node in program.inputs]
    given = dict(samples) if isinstance(samples, Mapping) else {names[0]: samples}
    arrays = {name: np.asarray(value) for name, value in given.items()}
    stepped = {n.name for n in program.inputs if n.coding == "steps"}
    fed = {name: np.moveaxis(x, 0, 1) if name in stepped else x for name, x in arrays.items()}
    trace = run(program, fed, backend="reference", record="outputs")
    outputs = {f"output/{name}": value for name, value in trace.all_outputs.items()}
    return {**{f"input/{name}": value for name, value in arrays.items()}, **outputs}


def _readme(program: Program, plan: NetPlan, layout: str) -> str:
    timing = plan.timing
    inputs = "\n".join(
        f"- `{n.name}`: raw samples {['N', *n.raw_shape]}, coding {n.coding}, "
        f"scale {n.scale:g}, payloads {n.lo}..{n.hi}"
        for n in program.inputs
    )
    outputs = "\n".join(f"- `{o.name}`: {o.read} of `{program.into[o.name][0].src}`" for o in program.outputs)
    table = "\n".join(f"| {row['node']} | {row['process']} | {row['reason']} |" for row in plan.table())
    return f"""# {program.name} as Lava processes

Runs with lava-nc 0.10 on Python 3.10 and nothing else:

    pip install lava-nc==0.10.0
    python run.py x.npz -o outputs.npz

`x.npz` holds `x`, samples first. `outputs.npz` holds `outputs` [N, classes], `pred`, and each output by name.
`python run.py --check` runs the golden samples, if there are any, and compares every output.

Inputs:
{inputs}

Outputs:
{outputs}

{LAYOUT_TEXT[layout].format(batch=plan.data.get("batch", 1))}

T = {timing.steps} logical steps per sample, {timing.stretch} machine step(s) each; the first sample takes
{timing.latency} machine steps, every further one {timing.sample_steps}.

| node | Lava process | why |
|---|---|---|
{table}
"""
