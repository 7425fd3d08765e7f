"""A mapping as rows: one per population, one per core."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.mapping.assign import Mapping
from snn2chip.mapping.partition import Tiling

PER_CORE = (
    *("neurons", "compartments", "synapses", "synapse bytes", "state bytes", "memory bytes", "input axons"),
    *("output slots", "routes", "list words", "threshold profiles", "compartment profiles"),
)


def layer_rows(mapping: Mapping) -> list[dict[str, Any]]:
    """One row per population: how it is cut, what its fullest core uses, the binding limit."""
    rows = []
    for name, tiling in mapping.partition.tilings.items():
        limit, share = tiling.binding()
        rows.append(
            {
                "soma": name,
                "layer": tiling.population.soma.layer,
                "shape": list(tiling.population.soma.shape),
                "cores": tiling.cores,
                "parts": list(tiling.grid.parts),
                "axons": sorted(set(tiling.modes)),
                **{key: int(tiling.demand[key].max()) for key in PER_CORE},
                "binding": limit,
                "share": share,
                "utilisation": utilisation(tiling),
            }
        )
    return rows


def utilisation(tiling: Tiling) -> dict[str, float]:
    """Largest use of every finite limit on some core, as a share of it."""
    return {
        name: float(tiling.demand[name].max()) / limit
        for name, limit in tiling.population.limits.items()
        if 0 < limit < float("inf")
    }


def core_rows(mapping: Mapping) -> list[dict[str, Any]]:
    """One row per core, by core id: where it lies, which box of neurons it holds, what it uses, the binding limit."""
    rows = []
    chips = mapping.chips
    for name, tiling in mapping.partition.tilings.items():
        used = {key: np.asarray(tiling.demand[key]).ravel() for key in tiling.demand}
        limits = {key: limit for key, limit in tiling.population.limits.items() if limit}
        for i, (core, box) in enumerate(zip(mapping.cores_of(name).tolist(), tiling.grid.boxes(), strict=True)):
            shares = {key: float(used[key][i]) / limit for key, limit in limits.items()}
            binding = max(shares, key=lambda key: shares[key])
            chip, tile = int(chips.chip(core)), int(chips.tile(core))
            rows.append(
                {
                    "core": core,
                    "chip": chip,
                    "tile": tile,
                    "xy": [tile % chips.tiles_x, tile // chips.tiles_x],
                    "soma": name,
                    "box": [list(span) for span in box],
                    **{key: int(used[key][i]) for key in PER_CORE},
                    "binding": binding,
                    "share": shares[binding],
                }
            )
    return sorted(rows, key=lambda row: row["core"])


def as_dict(mapping: Mapping) -> dict[str, Any]:
    """JSON-able form of everything: tables, costs, assumptions."""
    return {
        "format": "snn2chip-mapping",
        "version": 1,
        "name": mapping.program.name,
        "digest": mapping.program.digest(),
        "target": mapping.target.name,
        "chips": mapping.chips.count,
        "cores": mapping.partition.cores,
        "cores_per_chip": mapping.chips.cores,
        "traffic": mapping.traffic,
        "input_messages": mapping.input_messages,
        "cost": {key: attrs.asdict(getattr(mapping, key)) for key in ("cost", "row_major", "random")},
        "gain": gains(mapping),
        "layers": layer_rows(mapping),
        "per_core": core_rows(mapping),
        "assumptions": list(ASSUMPTIONS),
    }


def gains(mapping: Mapping) -> dict[str, float]:
    """Share of the hops that the placement saves against random and row-major order (0 where there are none)."""
    found = {}
    for key in ("random", "row_major"):
        other: float = getattr(mapping, key).hops
        found[key] = 1 - mapping.cost.hops / other if other else 0.0
    return found


ASSUMPTIONS = (
    "A core holds neurons of one population; its memory follows the target's own formulas and charges, so a mapping is "
    "feasible under that layout, not a vendor's compile.",
    "One message per spike and core it reaches; messages from the inputs are counted apart, without hops.",
    "Chips lie side by side in a near-square grid; a message to another chip crosses the tiles between (E).",
)
