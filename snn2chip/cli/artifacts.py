"""`--artifacts DIR`: everything that a compile or a report made, in one folder that stands for itself.

program.s2c      the program, with golden vectors: `snn2chip check program.s2c --golden`
inputs.npz       their raw samples: `snn2chip run program.s2c --input inputs.npz`
expected.npz     what they must give, as a trace: `snn2chip check program.s2c --trace expected.npz`
report.json, report.html, layers.csv, neurobench.json       the report on the samples named in it
timing.json      seconds of every stage and pass
log.txt          command, decisions, notes
manifest.json    every file with its size and SHA-256
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn2chip.errors import InputError

if TYPE_CHECKING:
    from snn2chip.ir.program import Program
    from snn2chip.reports.report import Report
    from snn2chip.stages import Stage

Artifacts = Annotated[
    Path | None,
    typer.Option(
        "--artifacts",
        metavar="DIR",
        help="Write program, report (JSON, HTML, CSV), golden inputs and outputs, timings and log into this folder.",
    ),
]
GOLDEN = 4
"""Samples with golden vectors."""
SAMPLES = 64
"""Samples of the report of a compile, at most."""
WHAT = {
    "program.s2c": "integer program with golden vectors",
    "inputs.npz": "raw samples of the golden vectors",
    "expected.npz": "payloads, potentials and outputs that they must give",
    "report.json": "report",
    "report.html": "report as a page",
    "layers.csv": "a line per layer",
    "neurobench.json": "figures by NeuroBench's definitions",
    "timing.json": "seconds of every stage and pass",
    "log.txt": "command, decisions, notes",
}


def ready(folder: Path) -> None:
    """Raise, before anything runs, for a folder that holds anything else and where pages cannot be drawn."""
    from snn2chip.artifacts import check_replaceable
    from snn2chip.reports.page import drawable

    check_replaceable(folder.resolve())
    drawable()


def of_a_compile(*, float_model: Path | None, model: str | None, data: str | None, target: str) -> dict[str, Any]:
    """Options of `made` for a program that was just compiled from `float_model` (None: from integers)."""
    from snn2chip.cli.measured import SENSITIVITY

    return {
        "data": data,
        "source": None,
        "samples": None,
        "most": SAMPLES,
        "float_model": float_model,
        "model": model,
        "targets": [target],
        "energy_models": [],
        "quick": False,
        "neurobench": 1,
        "execution_rate": None,
        "sensitivity": 0 if float_model is None else SENSITIVITY,
        "board_power": None,
        "device": None,
        "steps_in_input": False,
    }


def write_artifacts(
    folder: Path,
    program: Program,
    *,
    options: Mapping[str, Any],
    source: Path,
    rows: Sequence[Stage] = (),
    notes: Sequence[str] = (),
) -> Report:
    """Make golden vectors and the report (`options` of `made`, and `most` samples) and write the folder, all or none.

    A program without a data set of its own gets random samples. Raises InputError for a folder that holds anything
    else, BackendUnavailable when pages cannot be drawn.
    """
    from snn2chip import __version__
    from snn2chip.artifacts import replacing_folder, write_manifest
    from snn2chip.checkpoint_tensors import file_sha256
    from snn2chip.checks.outside import write_trace
    from snn2chip.cli.measured import made
    from snn2chip.cli.screen import write_json
    from snn2chip.golden import read_golden
    from snn2chip.origin import origin_of
    from snn2chip.reports.rows import write_csv
    from snn2chip.stages import listening, stage

    ready(folder)
    with replacing_folder(folder) as part, listening() as own:
        file = part / "program.s2c"
        with stage("golden vectors"):
            raw, count, chosen = _samples(program, part / "inputs.npz", options, source)
            program.save(file, golden=count, inputs=raw)
            write_trace(part / "expected.npz", read_golden(file)[1].expected, origin=origin_of(program, source))
        with stage("report"):
            found = made(file, **chosen)
        with stage("page"):
            (part / "report.html").write_text(found.html(), encoding="utf-8")
        write_json(part / "report.json", found.as_dict())
        write_csv(part / "layers.csv", found)
        write_json(part / "neurobench.json", {**(found.neurobench or {}), "origin": found.origin()})
        timed = [*rows, *own]
        write_json(part / "timing.json", {"unit": "s", "stages": [_plain(row) for row in timed]})
        (part / "log.txt").write_text(_log(program, found, source, timed, notes), encoding="utf-8")
        write_manifest(
            part,
            WHAT,
            snn2chip=__version__,
            program=program.digest(),
            source={"file": source.name, "sha256": file_sha256(source)},
            command=found.provenance.get("command"),
            versions=found.provenance["versions"],
            inputs=found.provenance["inputs"],
            made=found.provenance.get("made"),
            samples=found.provenance.get("samples"),
        )
    return found


def _samples(
    program: Program, file: Path, options: Mapping[str, Any], source: Path
) -> tuple[dict[str, Any], int, dict[str, Any]]:
    """Raw samples of the golden vectors by input, written to `file`, their number, and options of a report on them."""
    import numpy as np

    from snn2chip.cli.feed import make_feed
    from snn2chip.golden import random_samples
    from snn2chip.origin import as_array, origin_of
    from snn2chip.writing import put_npz

    stepped = {node.name for node in program.inputs if node.coding == "steps"}
    chosen, y, count = dict(options), None, GOLDEN
    most = chosen.pop("most", None)
    if options["source"] is None and options["data"] is None and "data" not in program.meta:
        raw = random_samples(program, GOLDEN)
        chosen |= {"source": file, "samples": None}
    else:
        given = {key: options[key] for key in ("data", "steps_in_input")}
        feed = make_feed(program, path=options["source"], **given)
        if feed.time_axis and len(stepped) < len(program.inputs):
            raise InputError("golden vectors hold raw samples as the program codes them, not every step; "
                             "leave out --artifacts or the axis of steps")  # fmt: skip
        count = min(GOLDEN, feed.samples.total)
        raw, y = next(iter(feed.blocks(count)))
        if most is not None:
            chosen["samples"] = min(most, feed.samples.total)
    arrays = {
        "x" if len(raw) == 1 else f"x/{name}": np.moveaxis(np.asarray(x), 0, 1) if name in stepped else np.asarray(x)
        for name, x in raw.items()
    }
    labels = {} if y is None else {"y": np.asarray(y)}
    put_npz(file, {**arrays, **labels, **as_array(origin_of(program, source))})
    return raw, count, chosen


def _plain(row: Stage) -> dict[str, Any]:
    return {"stage": row.name, "depth": row.depth, "wall": round(row.seconds, 6), "cpu": round(row.cpu, 6)}


def _log(program: Program, found: Report, source: Path, rows: Sequence[Stage], notes: Sequence[str]) -> str:
    about = found.provenance
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    neurons = sum(soma.size for soma in program.somas)
    lines = [
        f"made: {about['made']}",
        f"command: {about['command']}",
        f"versions: {versions}",
        f"source: {source.name}",
        f"program: {program.name}, {len(program.nodes)} nodes, {neurons:,} neurons, {program.steps} steps, "
        f"for {program.target}, {program.digest()}",
        f"samples of the report: {found.samples} of {about['samples']}",
        "",
        "seconds (wall, CPU) by stage:",
        *(f"  {row.seconds:9.3f} {row.cpu:9.3f}  {'  ' * row.depth}{row.name}" for row in rows),
        "",
        "decisions (node, field, from, to, error):",
        *(f"  {json.dumps(dict(record), sort_keys=True, default=str)}" for record in program.records),
        "",
        *(f"note: {text}" for text in (*notes, *found.notes)),
        *(f"{key} accuracy: {value:.4f}" for key, value in found.accuracy.items() if value is not None),
        *(f"assumes: {text}" for text in found.assumptions),
    ]
    return "\n".join(lines) + "\n"
