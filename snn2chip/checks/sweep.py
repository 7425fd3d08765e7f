"""How few bits will do: the integer program of one network at several weight widths, against the float network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import attrs
import numpy as np
import torch

from snn2chip.api import run
from snn2chip.compiler import compile_float_graph
from snn2chip.data.labels import check_labels
from snn2chip.errors import InputError, QuantizeError, UnsupportedError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.program import Program
from snn2chip.quantize.choices import Choices
from snn2chip.quantize.spec import QuantSpec
from snn2chip.quantize.widths import weight_bytes


@attrs.frozen(kw_only=True)
class Width:
    """One width: `accuracy` (None without labels) and `agreement` with the float network, bytes of packed weights.

    `refused` says why no program of this width can be made; the figures are None then.
    """

    mode: str
    accuracy: float | None
    agreement: float | None
    weight_bytes: int | None
    refused: str = ""


@attrs.frozen(kw_only=True)
class Sweep:
    """The widths and the float network's own accuracy (None without labels) on `samples` samples."""

    samples: int
    accuracy: float | None
    widths: tuple[Width, ...]


def bits_sweep(
    graph: LayerGraph,
    calibration: Any,
    inputs: Any,
    *,
    modes: Sequence[str],
    labels: Any = None,
    rounding: str = "nearest",
    choices: Choices | None = None,
    time_axis: bool = False,
    block: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Sweep:
    """Compile a float graph in normal form at every width of `modes` and run it on raw samples `[N, ...]`.

    `calibration`: raw samples for the ranges, `[T, N, ...]` like `inputs` with `time_axis`. `progress` is told the
    samples of every run, in all `(1 + modes) * samples`. Raises InputError for a mode or labels that do not fit.
    """
    for mode in modes:
        QuantSpec(weights=mode, rounding=rounding)
    x = np.asarray(inputs)
    axis = 1 if time_axis else 0
    total = x.shape[axis]
    y = None if labels is None else np.asarray(labels)
    if total == 0 or (y is not None and len(y) != total):
        raise InputError(f"{total} samples" + ("" if y is None else f", {len(y)} labels"))
    if y is not None:
        check_labels(y, prod(graph.shapes[graph.output.name]), name="labels")
    parts = [x[:, i : i + block] if time_axis else x[i : i + block] for i in range(0, total, block)]
    moved = progress or (lambda _: None)
    chosen = choices or Choices()
    graph = chosen.prepared(graph, calibration, per_step=time_axis)

    def floats(part: Any) -> Any:
        with torch.no_grad():
            return graph.run(torch.as_tensor(part).float()).output.flatten(1).argmax(1).cpu().numpy()

    want = _answers(parts, floats, axis, moved)
    widths = []
    for mode in modes:
        try:
            program = compile_float_graph(
                graph, calibration, weights=mode, rounding=rounding, time_axis=time_axis, choices=chosen
            )
        except (QuantizeError, UnsupportedError) as error:
            widths.append(Width(mode=mode, accuracy=None, agreement=None, weight_bytes=None, refused=str(error)))
            moved(total)
            continue

        def integers(part: Any, program: Program = program) -> Any:
            return run(program, part, record="outputs", time_axis=time_axis).pred

        got = _answers(parts, integers, axis, moved)
        widths.append(
            Width(
                mode=mode,
                accuracy=None if y is None else float((got == y).mean()),
                agreement=float((got == want).mean()),
                weight_bytes=weight_bytes(program),
            )
        )
    return Sweep(samples=total, accuracy=None if y is None else float((want == y).mean()), widths=tuple(widths))


def _answers(parts: Sequence[Any], answer: Callable[[Any], Any], axis: int, moved: Callable[[int], None]) -> Any:
    """Classes `[N]` of all blocks."""
    found = []
    for part in parts:
        found.append(np.asarray(answer(part)))
        moved(part.shape[axis])
    return np.concatenate(found)
