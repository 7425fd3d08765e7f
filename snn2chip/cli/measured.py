"""The report of one program file, as `snn2chip report` and `snn2chip compile --artifacts` make it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn2chip.cli.feed import make_feed

if TYPE_CHECKING:
    from snn2chip.reports.report import Report

BLOCK = 1024
"""Samples read at a time."""
SENSITIVITY = 32
"""Samples of the sensitivity on a page."""


def made(
    path: Path,
    *,
    data: str | None,
    source: Path | None,
    samples: int | None,
    float_model: Path | None,
    model: str | None,
    targets: list[str],
    quick: bool,
    steps_in_input: bool,
    sensitivity: int = 0,
    board_power: float | None = None,
    **options: Any,
) -> Report:
    """The report of one program file."""
    import attrs

    from snn2chip.api import load
    from snn2chip.cli.screen import progress, say
    from snn2chip.mapping.target_file import load_target
    from snn2chip.reports.costs import BOTH
    from snn2chip.reports.provenance import provenance
    from snn2chip.reports.report import measure

    chips = [] if quick else [load_target(name) for name in targets or BOTH]
    loaded = load(path)
    feed = make_feed(loaded, data=data, path=source, samples=samples, steps_in_input=steps_in_input)
    graph = predict = None
    doubt = ""
    if float_model is not None:
        from snn2chip.checks.float_side import float_side, source_doubt

        doubt = source_doubt(loaded, float_model)
        if doubt:
            say(f"warning: {doubt}")
        graph, predict = float_side(float_model, model=model, data=data, time_axis=feed.time_axis)
    with progress(f"report {path.name}", feed.samples.total) as advance:
        done = [0]

        def moved(now: int, total: int) -> None:
            advance(now - done[0])
            done[0] = now

        found = measure(loaded, feed.blocks(BLOCK), time_axis=feed.time_axis, progress=moved, targets=chips, **options)
    if graph is not None and predict is not None:
        from snn2chip.checks.fidelity import fidelity
        from snn2chip.reports import float_parts

        inputs, labels = next(iter(feed.blocks(feed.samples.total)))
        axis = feed.time_axis
        measured = fidelity(loaded, graph, inputs, labels=labels, time_axis=axis, model=predict)
        found = float_parts.with_fidelity(found, measured)
        single = len(loaded.inputs) == 1
        if not single:
            found = float_parts.with_several_inputs(found)
        if single and sensitivity:
            found = float_parts.with_sensitivity(
                found, graph, inputs, labels=labels, time_axis=axis, samples=sensitivity
            )
        if single:
            device = options.get("device")
            found = float_parts.with_float_model(
                found, predict, inputs, chips=chips, time_axis=axis, device=device, board_power=board_power
            )
    where = {
        "file": path.name,
        "samples": feed.samples.name if source is None else source.name,
        "float": None if float_model is None else float_model.name,
    }
    return attrs.evolve(
        found,
        provenance={**provenance(loaded, command=True), **where},
        notes=(*found.notes, *([doubt] if doubt else [])),
    )
