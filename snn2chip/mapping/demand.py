"""What one population needs on every core of a tiling, and what a core of the target has.

Memory that neurons share with synapses and routes (chips with neuron programs):

    memory = program + neurons * neuron + T accumulators twice for a window + synapses
           + axons * route_in + routes * route_out

On a fixed pipeline neurons, axons and routes have tables of their own, so only synapses count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import attrs
import numpy as np

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray
from snn2chip.mapping.connection import Connection
from snn2chip.mapping.grid import Grid
from snn2chip.mapping.target import Target

PROFILE = ("leak", "syn_leak", "v_min", "v_reset")
"""Parameters of a compartment profile; thresholds have profiles of their own, biases are registers."""


@attrs.frozen(kw_only=True, slots=False, eq=False)
class Population:
    """A soma, its connections in and out, and the target; `modes` of connections into it by their index."""

    soma: Soma
    target: Target
    into: Sequence[Connection]

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """`[C, H, W]` of the soma."""
        from snn2chip.mapping.grid import three

        return three(self.soma.shape)

    @property
    def compartments(self) -> int:
        """Compartments of one neuron."""
        soft = self.soma.fire == "levels" and self.soma.reset == "subtract"
        return int(self.target.neuron.soft_reset_compartments.value) if soft else 1

    @property
    def shared_memory(self) -> bool:
        """Whether neurons and routes take memory from the synapses."""
        return bool(self.target.neuron.model.value == "program")

    @property
    def state_bytes(self) -> int:
        """State and parameters of one neuron: two banks of T accumulators more where a window gathers a sample."""
        bits = self.target.neuron.state_bits.value
        word = 0 if math.isinf(bits) else -(-int(bits) // 8)
        bank = 0 if self.soma.window is None else 2 * self.soma.window.shape[0] * word
        return int(self.target.charges.neuron.value * self.compartments) + bank

    @property
    def neuron_limit(self) -> float:
        """Compartments of one core; delays beyond those of a full core leave room for fewer."""
        limits = self.target.limits
        wait = max((c.delay for c in self.into), default=0)
        most = limits.neurons_per_core.value
        if wait > limits.delay_max_full.value and math.isfinite(most):
            return int(most * limits.delay_max_full.value // wait)
        return float(most)

    @property
    def limits(self) -> dict[str, float]:
        """What one core has, by the names of `demand`."""
        limits = self.target.limits
        return {
            "compartments": self.neuron_limit,
            "synapse bytes": limits.synapse_memory_per_core.value,
            "memory bytes": limits.memory_per_core.value,
            "input axons": limits.input_axons_per_core.value,
            "output slots": limits.output_slots_per_core.value,
            "list words": limits.words_per_synapse_list.value,
            "synapse formats": limits.synapse_formats_per_core.value,
            "compartment profiles": limits.compartment_profiles_per_core.value,
            "threshold profiles": limits.threshold_profiles_per_core.value,
            "chip neurons": limits.neurons_per_chip.value,
            "chip synapses": limits.synapses_per_chip.value,
        }

    def mode_choices(self) -> list[tuple[str, ...]]:
        """Ways to use axons: positions shared wherever a connection can, or all discrete."""
        discrete = tuple("discrete" for _ in self.into)
        shared = tuple(
            "population" if "population" in c.modes and self._may_share(c) else "discrete" for c in self.into
        )
        return [discrete] if shared == discrete else [shared, discrete]

    def _may_share(self, connection: Connection) -> bool:
        return self.compartments == 1 and connection.src_shape[0] > 1

    def demand(
        self, grid: Grid, modes: Sequence[str], out: Sequence[tuple[Connection, str, Grid]], *, off_chip: bool = False
    ) -> dict[str, IntArray]:
        """Use of every limit per tile, `[parts]`; `out`: connections that leave, with their target's grid.

        `off_chip` counts every route as one to another chip. Further rows: neurons, state bytes, routes, synapses.
        """
        charges = self.target.charges
        neurons = grid.neurons
        zero = np.zeros(grid.parts, np.int64)
        loads = [c.load(grid, mode) for c, mode in zip(self.into, modes, strict=True)]
        synapse_bytes = sum((load.bytes for load in loads), zero)
        axons = sum((load.axons for load in loads), zero)
        synapses = sum((load.synapses for load in loads), zero)
        stored = sum((load.stored for load in loads), zero)
        words = np.maximum.reduce([load.words for load in loads]) if loads else zero
        slots, routes = zero, zero
        for connection, mode, theirs in out:
            leaving = connection.routes(theirs, mode, grid)
            each = charges.slots_population.value if mode == "population" else charges.slots_discrete.value
            routes = routes + leaving
            slots = slots + leaving * int(each + (charges.slots_other_chip.value if off_chip else 0))
        state = neurons * self.state_bytes
        memory = synapse_bytes
        if self.shared_memory:
            memory = memory + state + axons * int(charges.route_in.value) + routes * int(charges.route_out.value)
            memory = memory + int(charges.program.value)
        return {
            "compartments": neurons * self.compartments,
            "synapse bytes": synapse_bytes,
            "memory bytes": memory,
            "input axons": axons,
            "output slots": slots,
            "list words": words,
            "synapse formats": zero + len(self.into),
            "compartment profiles": self._distinct(grid, self._profiles),
            "threshold profiles": self._distinct(grid, self._thresholds),
            "chip neurons": neurons * self.compartments,
            "chip synapses": stored,
            "neurons": neurons,
            "state bytes": state,
            "routes": routes,
            "synapses": synapses,
        }

    def _distinct(self, grid: Grid, kinds: IntArray | None) -> IntArray:
        """Different settings per tile."""
        if kinds is None:
            return np.ones(grid.parts, np.int64)
        pairs = np.unique(grid.tile_of * (int(kinds.max()) + 1) + kinds) // (int(kinds.max()) + 1)
        return np.bincount(pairs, minlength=grid.tiles).reshape(grid.parts)

    @cached_property
    def _profiles(self) -> IntArray | None:
        return self._kinds(PROFILE)

    @cached_property
    def _thresholds(self) -> IntArray | None:
        return self._kinds(("theta",))

    def _kinds(self, fields: Sequence[str]) -> IntArray | None:
        """Which setting of `fields` every neuron has (flat); None where all share one, or it is in their program."""
        stored = [value for f in fields if (value := getattr(self.soma, f)) is not None]
        varying = [v for v in stored if v.shape[1:] != (1,)]
        if self.shared_memory or not varying:
            return None
        rows = [
            np.broadcast_to(self.soma.spread(v[t]), self.soma.shape).ravel() for v in varying for t in range(len(v))
        ]
        found: IntArray = np.unique(np.stack(rows), axis=1, return_inverse=True)[1].ravel()
        return found


def breached(demand: Mapping[str, IntArray], limits: Mapping[str, float]) -> dict[str, tuple[int, float]]:
    """Limits that some tile exceeds: (largest use, limit)."""
    return {name: (int(demand[name].max()), limit) for name, limit in limits.items() if demand[name].max() > limit}
