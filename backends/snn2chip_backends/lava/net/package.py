"""Run an emitted package: samples from an .npz file through Lava, outputs into another."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .assemble import SINKS, assemble, empty_file, read_plan, resolve, same_at_all_steps, tie
from .encode import encode, read_output
from .npz import write_npz
from .runtime import NetworkFailure
from .watch import run_network


def run_package(
    folder: Path,
    samples: dict[str, Any],
    *,
    mode: str = "sync",
    limit_s: float = 3600.0,
    batch: int | None = None,
) -> dict[str, Any]:
    """Outputs by name `[N, size]` of raw samples by input name, and `info` of the run.

    `batch` samples ride in every message (default: as the package was emitted). Raises ValueError, NetworkFailure.
    """
    plan, arrays = read_plan(folder)
    total = len(next(iter(samples.values())))
    if batch is not None and (batch < 1 or (batch > 1 and "batch" not in plan)):
        raise ValueError("batch must be at least 1" if batch < 1 else "the layout stock takes one sample at a time")
    plan["batch"] = min(batch or plan.get("batch", 1), total)
    dtypes = {item["name"]: item["args"]["dtype"] for item in plan["processes"] if item["kind"] == "feed"}
    with tempfile.TemporaryDirectory(prefix="lava-net-") as scratch:
        extra: dict[str, dict[str, Any]] = {}
        constant: list[str] = []
        for i, node in enumerate(plan["inputs"]):
            path = os.path.join(scratch, f"frames{i}.npy")
            coded = encode(resolve(node, arrays), samples[node["name"]], plan["steps"])
            if node["name"] in dtypes and same_at_all_steps(coded):
                constant.append(node["name"])
                coded = coded[:1]
            np.save(path, coded.astype(dtypes.get(node["name"], np.int32)))
            extra[node["name"]] = {"frames": path}
        progress = os.path.join(scratch, "progress.npy")
        np.save(progress, np.zeros(1, np.int64))
        files = {}
        for i, channel in enumerate(plan["channels"]):
            path = os.path.join(scratch, f"kept{i}.npy")
            shape = (plan["steps"], total, *channel["shape"])
            empty_file(path, channel["dtype"], shape)
            files[channel["node"], channel["what"]] = path
            sink = extra.setdefault(channel["sink"], {"channels": [], "progress": progress})
            sink["channels"].append({**channel, "file": path})
        made = assemble(plan, arrays, samples=total, extra=extra, constant=constant)
        sinks = [made[item["name"]] for item in plan["processes"] if item["kind"] in SINKS]
        tie(sinks)
        steps = plan["steps"] * plan["stretch"] * (-(-total // plan["batch"]) - 1) + plan["latency"]
        mark = np.load(progress, mmap_mode="r")
        info = run_network(sinks[0], steps, mode=mode, limit_s=limit_s, progress=lambda: int(mark[0]))
        found: dict[str, Any] = {}
        for output in plan["outputs"]:
            what = "potential" if output["read"] == "potential" else "payload"
            found[output["name"]] = read_output(output["read"], np.load(files[output["source"], what]))
    return {"outputs": found, "info": info}


def main(folder: Path, arguments: list[str] | None = None) -> int:
    """Command line of an emitted package."""
    parser = argparse.ArgumentParser(prog="run.py", description="Run this network on Lava.")
    parser.add_argument("input", nargs="?", help="x.npz with `x` [N, ...] (several inputs: one array per name)")
    parser.add_argument("-o", "--output", default="outputs.npz", help="where to write the outputs")
    parser.add_argument("--samples", type=int, default=None, help="only the first N samples")
    parser.add_argument("--mode", choices=("sync", "async"), default="sync")
    parser.add_argument("--batch", type=int, default=None, help="samples in one message (not with the layout stock)")
    parser.add_argument("--limit", type=float, default=3600.0, help="time limit in seconds")
    parser.add_argument("--check", action="store_true", help="run the golden samples and compare every output")
    given = parser.parse_args(arguments)
    if (given.input is None) != given.check:
        parser.error("give x.npz, or --check")
    output = Path(given.output)
    if not given.check and (output.is_dir() or not output.parent.is_dir()):
        reason = "is a folder" if output.is_dir() else f"there is no folder {output.parent}"
        parser.error(f"-o {given.output}: {reason}")
    golden = folder / "golden.npz"
    if given.check and not golden.is_file():
        parser.error("this package was emitted without golden samples")
    try:
        names = [node["name"] for node in read_plan(folder)[0]["inputs"]]
        with np.load(golden if given.check else given.input, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
        samples = pick(arrays, names, given.samples)
        result = run_package(folder, samples, mode=given.mode, limit_s=given.limit, batch=given.batch)
    except NetworkFailure as error:
        print(f"error: {f'process {error.process!r} ' if error.process else ''}{error}", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    outputs = result["outputs"]
    if given.check:
        total = len(samples[names[0]])
        wrong = [k for k, v in outputs.items() if not np.array_equal(v, arrays[f"output/{k}"][:total])]
        print(f"{'DIFFERENT: ' + ', '.join(wrong) if wrong else 'EQUAL'}: {total} golden samples")
        return 1 if wrong else 0
    first = next(iter(outputs.values()), np.zeros((len(samples[names[0]]), 0), np.int64))
    pred = first.argmax(1) if first.shape[1] else np.zeros(0, np.int64)
    try:
        write_npz(output, {"outputs": first, "pred": pred, **{f"output/{k}": v for k, v in outputs.items()}})
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    rate = result["info"]["steps_per_s"]
    said = f"{len(first)} samples, {result['info']['steps']} Lava steps, {rate:.0f} steps/s"
    print(f"{said}, layout {read_plan(folder)[0]['lava_layout']} -> {given.output}")
    return 0


def pick(arrays: dict[str, Any], names: list[str], total: int | None) -> dict[str, Any]:
    """The samples of every input: `x` for the only one, else one array per name (or `input/<name>`)."""
    found = {}
    for name in names:
        keys = [f"input/{name}", name, *(["x"] if len(names) == 1 else [])]
        key = next((k for k in keys if k in arrays), None)
        if key is None:
            raise ValueError(f"the file has {', '.join(arrays)}; expected samples of input {name} as {keys[-1]!r}")
        found[name] = arrays[key][:total]
    if len({len(v) for v in found.values()}) != 1 or len(found[names[0]]) == 0:
        sizes = {name: len(value) for name, value in found.items()}
        raise ValueError(f"expected the same number of samples for every input, at least one; got {sizes}")
    return found
