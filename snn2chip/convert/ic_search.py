"""The quantile of threshold balancing searched on data: the pool whose spiking network answers best.

score of a pool = share of samples whose class is the label, or without labels what the source network says
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from snn2chip.convert.activations import source_graph
from snn2chip.convert.ic_snn import ICOptions, to_ic_snn
from snn2chip.convert.parallel_calibration import batches
from snn2chip.convert.threshold_balance import CANDIDATES, Pool, Units, search
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph


@torch.no_grad()
def search_pool(
    model: nn.Module | LayerGraph,
    sample: Tensor | None = None,
    *,
    steps: int,
    data: Tensor | Iterable[Any],
    labels: Any = None,
    options: ICOptions | None = None,
    units: Units | None = None,
    candidates: Sequence[Pool] = CANDIDATES,
) -> tuple[Pool, dict[Pool, float]]:
    """Return the best pool at T = `steps` on `data` and the score of every candidate, 0..1.

    A pool whose thresholds vanish scores 0. Raises InputError when all of them do.
    """
    options = ICOptions() if options is None else options
    graph, parts = source_graph(model, sample), batches(data)
    wanted = [graph.run(x).output.argmax(1).cpu() for x in parts] if labels is None else [torch.as_tensor(labels)]
    truth = torch.cat(wanted)

    def score(pool: Pool) -> float:
        try:
            made = to_ic_snn(graph, steps=steps, data=parts, options=attrs.evolve(options, pool=pool), units=units)
        except InputError:
            return 0.0
        found = torch.cat([made.run(x).output.argmax(1).cpu() for x in parts])
        return float((found == truth).double().mean())

    best, scores = search(candidates, score)
    if not scores[best]:
        raise InputError("no quantile gives thresholds above 0; are the activations of the network all silent?")
    return best, scores
