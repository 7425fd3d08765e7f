"""A chip as data: limits, what its neurons can compute, memory charges, energies, timings, power.

`load_target("loihi2")` or `load_target("mine.toml")`; every number is a `Fact` with unit, source and confidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from snn2chip.ir.soma import FIRES, RESETS
from snn2chip.ir.types import SIGNS
from snn2chip.mapping.fact import Fact, slot

OPERATIONS = ("add", "multiply", "shift", "compare", "select", "minmax", "mask", "lookup")
"""Steps a neuron program may consist of (`snn2chip.micro`); a subtraction is an `add`."""


@attrs.frozen(kw_only=True)
class Limits:
    """Counts per core and chip."""

    cores_per_chip: Fact = attrs.field(metadata=slot("count", "cores", what="neuro-cores of one chip"))
    embedded_cpus_per_chip: Fact = attrs.field(
        metadata=slot("count", "processors", what="processors beside the neuro-cores")
    )
    neurons_per_core: Fact = attrs.field(metadata=slot("count", "neurons", what="compartments of one core"))
    neurons_per_chip: Fact = attrs.field(metadata=slot("count", "neurons", what="neurons of one chip"))
    synapses_per_chip: Fact = attrs.field(metadata=slot("count", "synapses", what="synapses of one chip"))
    memory_per_core: Fact = attrs.field(metadata=slot("count", "bytes", what="all memory of one core"))
    synapse_memory_per_core: Fact = attrs.field(metadata=slot("count", "bytes", what="memory of one core for synapses"))
    input_axons_per_core: Fact = attrs.field(metadata=slot("count", "axons", what="sources that one core listens to"))
    output_slots_per_core: Fact = attrs.field(
        metadata=slot("count", "slots", what="entries for destinations of one core's neurons")
    )
    words_per_synapse_list: Fact = attrs.field(
        metadata=slot("count", "words", what="longest synapse list of one input axon")
    )
    synapse_formats_per_core: Fact = attrs.field(
        metadata=slot("count", "formats", what="usable weight formats of one core")
    )
    compartment_profiles_per_core: Fact = attrs.field(
        metadata=slot("count", "profiles", what="different sets of neuron parameters")
    )
    threshold_profiles_per_core: Fact = attrs.field(
        metadata=slot("count", "profiles", what="different thresholds of one core")
    )
    delay_max: Fact = attrs.field(metadata=slot("count", "steps", what="longest delay of a synapse"))
    delay_max_full: Fact = attrs.field(
        metadata=slot("count", "steps", what="longest delay on a core with all its neurons in use")
    )


@attrs.frozen(kw_only=True)
class Neuron:
    """What a neuron can compute, and on how many bits."""

    model: Fact = attrs.field(
        metadata=slot("choice", options=("lif", "program"), what="fixed pipeline, or a program per neuron")
    )
    operations: Fact = attrs.field(
        metadata=slot("names", options=OPERATIONS, what="steps that a neuron program may use")
    )
    compare: Fact = attrs.field(
        metadata=slot("choice", options=("strict", "at-least", "any"), what="spike iff v > theta, v >= theta")
    )
    fires: Fact = attrs.field(metadata=slot("names", options=FIRES, what="emission rules"))
    resets: Fact = attrs.field(metadata=slot("names", options=RESETS, what="reset rules"))
    soft_reset_compartments: Fact = attrs.field(
        metadata=slot("count", "compartments", what="compartments of a neuron that subtracts")
    )
    windows: Fact = attrs.field(
        metadata=slot("flag", what="whether a neuron can gather a whole sample before it fires")
    )
    per_step: Fact = attrs.field(metadata=slot("flag", what="whether parameters may change from step to step"))
    state_bits: Fact = attrs.field(metadata=slot("count", "bits", what="signed state registers"))
    current_bits: Fact = attrs.field(metadata=slot("count", "bits", what="signed sum of the synapses"))
    current_align_bits: Fact = attrs.field(
        metadata=slot("count", "bits", what="low bits of the summed current that are always 0")
    )
    coefficient_bits: Fact = attrs.field(metadata=slot("count", "bits", what="factors of a multiplication"))
    coefficient_signed: Fact = attrs.field(metadata=slot("flag", what="whether factors have a sign"))
    product_bits: Fact = attrs.field(metadata=slot("count", "bits", what="signed results inside a step"))
    leak_min: Fact = attrs.field(metadata=slot("whole", "1/4096", what="smallest membrane factor"))
    leak_max: Fact = attrs.field(metadata=slot("whole", "1/4096", what="largest membrane factor"))
    syn_leak_max: Fact = attrs.field(metadata=slot("whole", "1/4096", what="largest factor of the synaptic current"))
    threshold_bits: Fact = attrs.field(
        metadata=slot("count", "bits", what="threshold mantissa, unsigned where the model is lif")
    )
    threshold_align_bits: Fact = attrs.field(
        metadata=slot("count", "bits", what="left shift of the threshold mantissa")
    )
    bias_bits: Fact = attrs.field(metadata=slot("count", "bits", what="signed bias mantissa"))
    bias_exponent_max: Fact = attrs.field(
        metadata=slot("count", "bits", what="largest left shift of the bias mantissa")
    )


@attrs.frozen(kw_only=True)
class Spikes:
    """What a message carries."""

    graded: Fact = attrs.field(metadata=slot("flag", what="whether a spike carries a number"))
    payload_bits: Fact = attrs.field(metadata=slot("count", "bits", what="widest payload, sign included"))
    signed: Fact = attrs.field(metadata=slot("flag", what="whether a payload may be negative"))


@attrs.frozen(kw_only=True)
class Weights:
    """What a synapse stores."""

    bits_max: Fact = attrs.field(metadata=slot("count", "bits", what="widest stored weight"))
    widths: Fact = attrs.field(metadata=slot("counts", "bits", what="widths that can be stored; others take the next"))
    signs: Fact = attrs.field(metadata=slot("names", options=SIGNS, what="sign modes"))
    exponent_min: Fact = attrs.field(metadata=slot("whole", "bits", what="smallest weight exponent that loses nothing"))
    exponent_max: Fact = attrs.field(metadata=slot("whole", "bits", what="largest weight exponent"))
    kernels: Fact = attrs.field(metadata=slot("flag", what="whether a convolution's weights are stored once per core"))


@attrs.frozen(kw_only=True)
class Charges:
    """Memory that neurons, routes and programs take, beside the synapses."""

    neuron: Fact = attrs.field(metadata=slot("count", "bytes", what="state and parameters of one neuron"))
    route_in: Fact = attrs.field(metadata=slot("count", "bytes", what="one incoming route"))
    route_out: Fact = attrs.field(metadata=slot("count", "bytes", what="one outgoing route to one core"))
    program: Fact = attrs.field(metadata=slot("count", "bytes", what="neuron program of one core"))
    slots_discrete: Fact = attrs.field(metadata=slot("count", "slots", what="output slots of one discrete axon"))
    slots_population: Fact = attrs.field(metadata=slot("count", "slots", what="output slots of one population axon"))
    slots_other_chip: Fact = attrs.field(
        metadata=slot("count", "slots", what="further slots when the destination is on another chip")
    )


@attrs.frozen(kw_only=True)
class Encoding:
    """How the synapses of one source neuron are written into memory."""

    weight_bits_extra: Fact = attrs.field(
        metadata=slot("count", "bits", what="bits beside the weight of every stored synapse")
    )
    index_bits_min: Fact = attrs.field(
        metadata=slot("count", "bits", what="fewest bits of a target's index or of a skip")
    )
    index_bits_max: Fact = attrs.field(
        metadata=slot("count", "bits", what="most bits of a target's index or of a skip")
    )
    header_bits: Fact = attrs.field(metadata=slot("count", "bits", what="header of one entry"))
    start_bits_min: Fact = attrs.field(metadata=slot("count", "bits", what="fewest bits of an entry's first target"))
    synapses_per_entry: Fact = attrs.field(metadata=slot("count", "synapses", what="synapses of one entry"))
    word_bits: Fact = attrs.field(metadata=slot("count", "bits", what="lists are rounded up to words of this width"))
    spare_bits: Fact = attrs.field(
        metadata=slot("count", "bits", what="a list with fewer free bits in its last word takes another word")
    )
    rounding: Fact = attrs.field(
        metadata=slot(
            "choice", options=("list", "entry"), what="what is rounded up to words: a whole list, or each entry"
        )
    )
    overhead: Fact = attrs.field(metadata=slot("number", what="further memory, as a fraction"))
    zeros: Fact = attrs.field(metadata=slot("flag", what="whether absent synapses are stored as zeros"))


@attrs.frozen(kw_only=True)
class Mesh:
    """The network on the chip."""

    tiles_x: Fact = attrs.field(metadata=slot("count", "tiles", what="tiles from east to west"))
    tiles_y: Fact = attrs.field(metadata=slot("count", "tiles", what="tiles from north to south"))
    cores_per_tile: Fact = attrs.field(metadata=slot("count", "cores", what="cores that share a router"))
    off_chip_bandwidth: Fact = attrs.field(
        metadata=slot("number", what="bandwidth between chips as a fraction of that on a chip")
    )


ENERGY_EVENTS = (
    *("synop", "synop_dense", "synop_sparse", "synop_conv", "synop_stdp", "update_active", "update_inactive"),
    *("neuron_access", "neuron_update", "spike_out", "message_out", "deliver_tile", "hop_ew", "hop_ns"),
    *("add_int8", "add_int32", "add_fp16", "add_fp32", "mul_int8", "mul_int32", "mul_fp16", "mul_fp32", "ac", "mac"),
    *("mac_int8", "mac_fp16", "sram_8kb", "sram_32kb", "sram_1mb", "dram"),
)
TIMING_EVENTS = (
    *("update_active", "update_inactive", "neuron_access", "neuron_update", "synop", "synop_dense", "synop_sparse"),
    *("synop_conv", "spike_out", "deliver_tile", "hop_ew", "hop_ns", "barrier", "step"),
    *("neuron_op", "memory_read", "link_bit"),
)
SCOPES = ("dynamic", "total", "arithmetic")
STATUS = ("published", "fitted", "surrogate", "vendor", "reference", "user")


def _frozen(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(value))


@attrs.frozen(kw_only=True)
class Model:
    """Coefficients of one energy (pJ) or timing (ns) model; use them only with its own list of events.

    `kind`: `events` (sum over events), `operations` (arithmetic of a network off the chip), `sum` or `max-affine`
    (time of a step). `status` says what the numbers are; `caveat` is printed with every result. `scope` of an energy:
    `dynamic` (static power comes on top), `total` (it is in it) or `arithmetic` (operations alone).
    """

    name: str
    title: str
    kind: str
    status: str
    formula: str
    caveat: str = ""
    scope: str = "dynamic"
    events: Mapping[str, Fact] = attrs.field(converter=_frozen)


@attrs.frozen(kw_only=True)
class Target:
    """One chip. `limits`, `neuron`, `spikes`, `weights`, `charges`, `mesh` hold facts by field name.

    `encodings`, `energies`, `timings` and `power` hold several of a kind by name; `sources` spells out the keys that
    facts name as their source.
    """

    name: str
    title: str
    limits: Limits
    neuron: Neuron
    spikes: Spikes
    weights: Weights
    charges: Charges
    mesh: Mesh | None
    encodings: Mapping[str, Encoding] = attrs.field(converter=_frozen)
    energies: Mapping[str, Model] = attrs.field(converter=_frozen)
    timings: Mapping[str, Model] = attrs.field(converter=_frozen)
    power: Mapping[str, Fact] = attrs.field(converter=_frozen)
    sources: Mapping[str, str] = attrs.field(converter=_frozen)

    def __repr__(self) -> str:
        return f"Target({self.name!r})"


SECTIONS: dict[str, type[Any]] = {
    "limits": Limits,
    "neuron": Neuron,
    "spikes": Spikes,
    "weights": Weights,
    "charges": Charges,
    "mesh": Mesh,
}
"""Tables of a target file whose keys are fixed."""
