"""Everything of a program that a target cannot do, at once: `check_target(program, "loihi1")`.

Counts per core and chip are not looked at here; that is what a mapping is for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs
import numpy as np

from snn2chip.errors import ScheduleError, UnsupportedError
from snn2chip.ir.nodes import Host, Input, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import PER_STEP, Soma
from snn2chip.ir.types import V_MAX
from snn2chip.mapping.breach import Breach, breach, summary
from snn2chip.mapping.fixed_neuron import form_of, needs_grid, register_misfits
from snn2chip.mapping.offers import Offers
from snn2chip.mapping.target import Target
from snn2chip.mapping.target_file import load_target
from snn2chip.micro.lower import lower_soma
from snn2chip.micro.text import unmixed_range
from snn2chip.micro.widths import bits_of, width_breaches, widths
from snn2chip.stages import staged


def check_target(program: Program, target: Target | str) -> list[Breach]:
    """All breaches of `target` (a Target, a built-in name or the path of a .toml file) by `program`.

    Each names the node, the user's layer and what would help; `kind` tells what is refused from what only costs more
    or what static bounds leave unproven.
    """
    chip = target if isinstance(target, Target) else load_target(target)
    offers = Offers(program)
    found: list[Breach] = []
    for node in program.order:
        if isinstance(node, (Input, Host)):
            found += _payload(node, chip, offers)
        elif isinstance(node, Synapse):
            found += _synapse(node, chip)
        elif isinstance(node, Product):
            found += _product(program, node, chip)
        elif isinstance(node, Soma):
            found += _soma(program, node, chip, offers)
    found += _delays(program, chip)
    return found


@staged("check against the target")
def fitted(program: Program, target: Target) -> Program:
    """`program` for `target`; what it costs there is noted in `meta["target_notes"]`.

    Raises UnsupportedError that lists everything the target cannot do.
    """
    found = check_target(program, target)
    if refused := [str(item) for item in found if item.kind == "refused"]:
        raise UnsupportedError([f"{target.title}: {text}" for text in refused])
    notes = [f"{target.title}: {text}" for text in summary(found, "cost")]
    if not notes and program.target == target.name:
        return program
    meta = {**program.meta, "target_notes": notes} if notes else program.meta
    return attrs.evolve(program, target=target.name, meta=meta)


def _payload(node: Input | Host | Soma, chip: Target, offers: Offers) -> Iterator[Breach]:
    kind = node.payload_type()
    if kind.lo < 0 and not chip.spikes.signed.value:
        help = (
            "fold the offset into the first bias, or split it into two channels" if not isinstance(node, Soma) else ""
        )
        yield breach(node, f"sends negative payloads ({kind.lo}..{kind.hi}); a spike here has no sign", help)
    if kind.hi > 1 and not chip.spikes.graded.value:
        yield breach(
            node, f"sends graded payloads (up to {kind.hi}); spikes here are binary", _binary(node, chip, offers)
        )
    elif kind.bits > chip.spikes.payload_bits.value and chip.spikes.graded.value:
        most = chip.spikes.payload_bits.value
        yield breach(node, f"its payload takes {kind.bits} bits, at most {most} are sent", "use fewer payload bits")


def _binary(node: Input | Host | Soma, chip: Target, offers: Offers) -> str:
    if not isinstance(node, Soma):
        return "code it in binary spikes (coding='rate-floor' or 'rate-round', range 0..1)"
    if node.fire == "levels":
        return offers.binary_levels(node, windows=chip.neuron.windows.value)
    return f"fire='{node.fire}' has no binary form; use levels=1, or a target with graded spikes"


def _synapse(node: Synapse, chip: Target) -> Iterator[Breach]:
    weights = chip.weights
    bits = 2 if node.bits == "ternary" else int(node.bits)
    if bits > weights.bits_max.value or bits > max(weights.widths.value):
        most = min(weights.bits_max.value, max(weights.widths.value))
        yield breach(
            node, f"{bits}-bit weights, at most {most} bits are stored", f"use fewer bits (weights='int{most}')"
        )
    else:
        stored = min(n for n in weights.widths.value if n >= bits)
        if stored != bits:
            yield breach(node, f"{bits}-bit weights are stored in {stored} bits", "", "cost")
    if node.sign not in weights.signs.value:
        known = ", ".join(weights.signs.value)
        yield breach(node, f"{node.sign} weights; known here: {known}", "declare another sign mode that holds them")
    if chip.neuron.model.value == "program" and node.exponent > weights.exponent_max.value:
        most = weights.exponent_max.value
        yield breach(node, f"weight exponent {node.exponent}, at most {most}", "move the rest into the soma's gain")


def _product(program: Program, node: Product, chip: Target) -> Iterator[Breach]:
    neuron = chip.neuron
    if neuron.model.value != "program" or "multiply" not in neuron.operations.value:
        yield breach(
            node,
            "multiplies two payloads; neurons here do not multiply what they receive",
            "train without the gate or attention, or choose a target with neuron programs",
        )
        return
    kinds = [source.payload_type() for source in program.sources(node.name)]  # type: ignore[union-attr]
    wide, narrow = sorted((bits_of(k.lo, k.hi) for k in kinds), reverse=True)
    if wide > neuron.state_bits.value + 1 or narrow > neuron.coefficient_bits.value:
        yield breach(
            node,
            f"multiplies payloads of {wide} and {narrow} bits; {neuron.state_bits.value} by "
            f"{neuron.coefficient_bits.value} bits are multiplied here",
            "use fewer payload bits for one of its sources (out_shift, payload_bits)",
        )


def _soma(program: Program, soma: Soma, chip: Target, offers: Offers) -> Iterator[Breach]:
    neuron = chip.neuron
    graded = chip.spikes.graded.value
    yield from _payload(soma, chip, offers)
    if soma.fire not in neuron.fires.value:
        yield breach(soma, f"fire='{soma.fire}'; known here: {', '.join(neuron.fires.value)}")
    elif soma.fire != "none" and soma.reset not in neuron.resets.value:
        yield breach(soma, f"reset='{soma.reset}'; known here: {', '.join(neuron.resets.value)}")
    if soma.fire == "levels" and soma.reset == "subtract" and neuron.soft_reset_compartments.value > 1:
        n = neuron.soft_reset_compartments.value
        yield breach(soma, f"reset by subtraction takes {n} compartments per neuron, and discrete axons", "", "cost")
    if soma.window is not None and not neuron.windows.value:
        help = offers.single_step(soma, graded=graded)
        yield breach(soma, "mixes the steps of a sample (window); neurons here cannot gather a sample", help)
    changing = [] if neuron.per_step.value else _changing(soma)
    if changing:
        help = offers.single_step(soma, graded=graded)
        yield breach(soma, f"{', '.join(changing)} changes from step to step; parameters here are fixed", help)
    yield from _leaks(soma, chip)
    fixed = neuron.model.value == "lif"
    yield from _fixed(program, soma, chip, offers) if fixed else _programmed(program, soma, chip)


def _changing(soma: Soma) -> list[str]:
    found = []
    for field in PER_STEP:
        values = getattr(soma, field)
        ladder = field == "theta" and soma.ladder
        if values is not None and not ladder and (values != values[:1]).any():
            found.append(field)
    return found


def _leaks(soma: Soma, chip: Target) -> Iterator[Breach]:
    neuron = chip.neuron
    lo, hi = int(soma.leak.min()), int(soma.leak.max())
    stateless = soma.reset == "drop" and soma.fire != "none"
    if not stateless and (lo < neuron.leak_min.value or hi > neuron.leak_max.value):
        what = "negative" if lo < 0 else "growing" if hi > neuron.leak_max.value else "complete"
        yield breach(
            soma,
            f"leak {lo}..{hi} of 4096 ({what}); {neuron.leak_min.value}..{neuron.leak_max.value} here",
            "train with a leak in that range, or leave the norm unmerged" if what != "complete" else "",
        )
    if soma.syn_leak is not None and int(soma.syn_leak.max()) > neuron.syn_leak_max.value:
        most = neuron.syn_leak_max.value
        yield breach(soma, f"syn_leak {int(soma.syn_leak.max())} of 4096; at most {most} here")


def _fixed(program: Program, soma: Soma, chip: Target, offers: Offers) -> Iterator[Breach]:
    """A fixed pipeline: registers of its own, and one spike per step."""
    if soma.fire == "levels" and int(soma.levels.max()) > 1 and soma.payload_type().hi <= 1:
        help = offers.binary_levels(soma, windows=False)
        yield breach(soma, f"counts up to {int(soma.levels.max())} levels in a step; a neuron here spikes once", help)
    synapses = [s for e in program.into[soma.name] if isinstance(s := program[e.src], Synapse)]
    exponent = max((s.exponent - (s.sign == "mixed") for s in synapses), default=0)  # mixed mantissas are even
    for what, help in register_misfits(soma, exponent, chip):
        yield breach(soma, what, help)
    form = form_of(soma, exponent, chip)
    lo, hi = unmixed_range(program, soma)
    gain = int(np.abs(soma.gain).max()) * form
    if (n := bits_of(lo * gain, hi * gain)) > chip.neuron.current_bits.value:
        what = f"its current may need {n} bits by the static bound, the chip sums {chip.neuron.current_bits.value}"
        yield breach(soma, what, "", "unproven")
    if soma.fire == "levels" and int(soma.levels.max()) > 1:
        return  # refused above, and its registers mean nothing
    if form > 1 or needs_grid(soma, form, 1 << chip.neuron.current_align_bits.value):
        listing = lower_soma(soma, program.steps, chip)
        low, high = widths(listing, (lo, hi)).registers["v"]
        if max(-low, high) * form >= V_MAX:
            what = "by the static bound its potential may saturate, in the units in which its registers compare exactly"
            yield breach(soma, what, "", "unproven")


def _programmed(program: Program, soma: Soma, chip: Target) -> Iterator[Breach]:
    """A neuron program: what its steps need."""
    if all(math.isinf(bits.value) for bits in (chip.neuron.product_bits, chip.neuron.state_bits)):
        return
    try:
        listing = lower_soma(soma, program.steps, chip)
    except UnsupportedError as error:
        yield Breach("", str(error))
        return
    found = width_breaches(listing, widths(listing, unmixed_range(program, soma)), chip)
    for item in found:
        if item.certain:
            yield breach(soma, item.text, "use fewer bits there")
    if loose := [item.text for item in found if not item.certain]:
        more = f" (and {len(loose) - 1} more; see snn2chip inspect --micro)" if len(loose) > 1 else ""
        yield breach(soma, f"by the static bound {loose[0]}{more}", "", "unproven")


def _delays(program: Program, chip: Target) -> Iterator[Breach]:
    from snn2chip.schedule import schedule
    from snn2chip.schedule_balance import balanced_schedule

    most, full = chip.limits.delay_max.value, chip.limits.delay_max_full.value
    try:
        plan = schedule(program)
        if math.isinf(full) or max(plan.buffers.values(), default=0) <= full:
            return
        if max(plan.buffers.values()) > most:
            plan = balanced_schedule(program, most=int(most))
    except ScheduleError as error:
        for text in error.breaches:
            yield Breach("", text)
        return
    longest = max(plan.buffers, key=lambda key: plan.buffers[key])
    if plan.buffers[longest] > full:
        what = f"payloads wait {plan.buffers[longest]} steps on the way to {longest[2]}; a full core allows {full}"
        yield breach(program[longest[0]], what, "the core holds fewer neurons then", "cost")
