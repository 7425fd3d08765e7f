"""The report of one program file, as `snn2chip report` and `snn2chip compile --artifacts` make it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn2chip.cli.feed import file_of, make_feed
from snn2chip.cli.shard_options import in_words

if TYPE_CHECKING:
    from snn2chip.checks.fidelity import Fidelity
    from snn2chip.checks.float_model import FloatModel
    from snn2chip.data.feed import Feed
    from snn2chip.ir.graph import LayerGraph
    from snn2chip.reports.report import Report
    from snn2chip.reports.tally import Tally
    from snn2chip.shards.measuring import Counting
    from snn2chip.shards.workers import Workers

TIMED = 64
"""Samples read for figures of the float model alone."""
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
    shared: Workers | None = None,
    **options: Any,
) -> Report:
    """The report of one program file."""
    import attrs

    from snn2chip.api import load
    from snn2chip.cli.screen import say
    from snn2chip.mapping.target_file import load_target, target_names
    from snn2chip.origin import data_name, hashes
    from snn2chip.reports.costs import BOTH
    from snn2chip.reports.measured import report_of
    from snn2chip.reports.provenance import provenance
    from snn2chip.shards.measuring import Counting

    chips = [] if quick else [load_target(name) for name in targets or BOTH]
    loaded = load(path)
    feed = make_feed(loaded, data=data, path=source, samples=samples, steps_in_input=steps_in_input)
    doubt = ""
    if float_model is not None:
        from snn2chip.checks.float_side import source_doubt

        doubt = source_doubt(loaded, float_model)
        if doubt:
            say(f"warning: {doubt}")
    counting = Counting(detail=bool(chips), neurobench=options.pop("neurobench", None), device=options.get("device"))
    words = None
    if shared is not None:
        words = in_words(path, feed, data=data, path=source, steps_in_input=steps_in_input)
    tally, fidelity, side = measured(
        feed,
        counting,
        float_model=float_model,
        model=model,
        data=data,
        words=words,
        shared=shared,
        text=f"report {path.name}",
    )
    assert tally is not None
    device = options.pop("device", None)
    found = report_of(tally, targets=chips, **options)
    if fidelity is not None and side is not None:
        from snn2chip.reports import float_parts

        graph, predict = side
        found = float_parts.with_fidelity(found, fidelity)
        if len(loaded.inputs) > 1:
            found = float_parts.with_several_inputs(found)
        else:
            axis = feed.time_axis
            few = min(max(sensitivity, TIMED), feed.samples.total)
            inputs, labels = next(iter(feed.blocks(few, stop=few)))
            if sensitivity:
                found = float_parts.with_sensitivity(
                    found, graph, inputs, labels=labels, time_axis=axis, samples=sensitivity
                )
            found = float_parts.with_float_model(
                found, predict, inputs, chips=chips, time_axis=axis, device=device, board_power=board_power
            )
    own = [name for name in targets if name not in target_names()]
    where = {
        "file": path.name,
        "samples": data_name(feed.samples.name if source is None else source.name),
        "float": None if float_model is None else float_model.name,
        "inputs": hashes(path, file_of(feed, source), float_model, *own),
    }
    return attrs.evolve(
        found,
        provenance={**provenance(loaded), **where},
        notes=(*found.notes, *([doubt] if doubt else [])),
    )


def measured(
    feed: Feed,
    counting: Counting | None,
    *,
    float_model: Path | None,
    model: str | None,
    data: str | None,
    words: dict[str, Any] | None,
    shared: Workers | None,
    text: str,
) -> tuple[Tally | None, Fidelity | None, tuple[LayerGraph, FloatModel] | None]:
    """Counts and fidelity over all samples of a feed, and the float side; here, or `shared` among workers.

    `words` says the same samples in words, for workers.
    """
    from snn2chip.cli.screen import progress
    from snn2chip.shards import measuring
    from snn2chip.shards.opened import NamedFile

    file = None
    if float_model is not None:
        file = measuring.FloatFile(file=NamedFile.of(float_model), model=model, data=data, time_axis=feed.time_axis)
    side = None if file is None else measuring.float_side_of(file)
    with progress(text, feed.samples.total) as advance:
        if shared is None or words is None:
            tally, fidelity = measuring.measure_range(feed, counting, side, advance=advance)
        else:
            job = measuring.MeasureJob(**words, counting=counting, float_file=file)
            tally, fidelity = measuring.measure_sharded(job, shared, advance=advance)
    return tally, fidelity, side
