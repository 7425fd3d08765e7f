"""Hand-made test programs for places where integer machines break: register limits, long delays, odd graphs.

They belong to the conformance suite besides the pairwise set; `row["edge"]` names each one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import NEVER, V_MAX
from snn2chip.testing.cases import Case, make_case
from snn2chip.testing.draft import Draft

EDGES: dict[str, Callable[[Draft], None]] = {}
STEPS = {"delay-beyond-sample": 2, "two-windows": 3, "single-step-window": 1}


def _edge(build: Callable[[Draft], None]) -> Callable[[Draft], None]:
    EDGES[build.__name__.lstrip("_").replace("_", "-")] = build
    return build


def edge_cases() -> Iterator[Case]:
    """All hand-made cases, with three samples each."""
    for i, (name, build) in enumerate(EDGES.items()):
        draft = Draft(np.random.default_rng(70_000 + i), steps=STEPS.get(name, 5), batch=3, name=f"edge-{name}")
        build(draft)
        yield make_case(draft.name, draft, {"edge": name})


def _given(draft: Draft, name: str, values: Any, lo: int, hi: int) -> str:
    """An input whose payloads are exactly `values[t]` (broadcast to `[T, B, n]`), into an identity synapse."""
    array = np.asarray(values, dtype=np.int64)
    full = np.broadcast_to(array, (draft.steps, draft.batch, array.shape[-1])).copy()
    draft.nodes.append(Input(name, (array.shape[-1],), lo, hi, coding="steps"))
    draft.raw[name] = full
    draft.payloads[name] = full
    return draft.synapse(f"{name}_syn", name, {"kind": "identity", "weights": "ternary"})


def _plain(draft: Draft, name: str, source: str, weight: Any = 1, **options: Any) -> str:
    """A synapse with exactly this weight."""
    made = draft.synapse(name, source, {"kind": "identity", "weights": "ternary"}, delay=options.pop("delay", 0))
    draft.replace(Synapse(name, "identity", weight, **options))
    return made


@_edge
def _past_times_present(draft: Draft) -> None:
    """A product takes the same source twice, with different delays."""
    source = draft.input("in", (4, 2), source="signed")
    made = draft.product("square", source, source, delay=2)
    draft.output(draft.add_soma(Soma("subject", (4, 2), fire="relay", reset="drop"), [made]))


@_edge
def _delay_beyond_sample(draft: Draft) -> None:
    """A delay longer than the sample delivers nothing, ever."""
    source = draft.input("in", (4,), source="graded")
    late = draft.synapse("late", source, {"kind": "identity", "weights": "int4"}, delay=3)
    prompt = draft.synapse("prompt", source, {"kind": "identity", "weights": "excitatory"})
    draft.output(draft.add_soma(Soma("subject", (4,), fire="relay", reset="drop"), [late, prompt]))


@_edge
def _last_step_delay(draft: Draft) -> None:
    """A recurrent delay of T - 1 acts at the last step only."""
    source = draft.input("in", (4,), source="graded")
    into = draft.synapse("into", source, {"kind": "identity", "weights": "excitatory"})
    subject = draft.soma("subject", [into], {"levels": "many"})
    draft.feedback("back", subject, subject, {"weights": "binary"}, delay=draft.steps - 1)
    draft.output(subject)


@_edge
def _three_hop_loop(draft: Draft) -> None:
    """A loop of three hops with a total delay of 1: three machine steps per logical step."""
    source = draft.input("in", (4,), source="graded")
    into = draft.synapse("into", source, {"weights": "int4"}, units=4)
    first = draft.soma("first", [into], {"levels": "many"})
    second = draft.soma("second", [draft.synapse("to2", first, {"weights": "int4"}, units=4)], {"leak": "decay"})
    third = draft.soma("third", [draft.synapse("to3", second, {"weights": "int4"}, units=4)], {"reset": "zero"})
    draft.feedback("back", third, first, {"weights": "binary"}, delay=1)
    beside = draft.synapse("beside", source, {"weights": "int4"}, units=4)
    after = draft.synapse("after", third, {"weights": "int4"}, units=4)
    draft.output(draft.soma("subject", [beside, after], {"window": "exact"}))


@_edge
def _two_windows(draft: Draft) -> None:
    """Two windowed somas in a row beside an unwindowed path: buffers of two samples."""
    source = draft.input("in", (3,), source="signed")
    path = source
    for i in range(2):
        into = draft.synapse(f"into{i}", path, {"kind": "identity", "weights": "ternary"})
        path = draft.soma(f"mix{i}", [into], {"window": "exact", "levels": "many"})
    long, short = (draft.synapse(n, s, {"weights": "int4"}, units=4) for n, s in (("long", path), ("short", source)))
    draft.output(draft.soma("subject", [long, short], {"levels": "many"}))


@_edge
def _single_step_window(draft: Draft) -> None:
    """T = 1 with a 1x1 window that only scales."""
    into = draft.synapse("into", draft.input("in", (4,), source="signed"), {"weights": "int4"}, units=3)
    draft.output(draft.add_soma(Soma("subject", (3,), window=[[-3]], theta=5, levels=4), [into]))


@_edge
def _one_neuron(draft: Draft) -> None:
    """A soma of one neuron, parameters per step, per channel and per neuron at once."""
    into = draft.synapse("into", draft.input("in", (3,), source="graded"), {"weights": "int4"}, units=1)
    draft.output(draft.soma("subject", [into], {"per_step": "yes", "spread": "channel", "bias": "yes"}))


@_edge
def _many_sources(draft: Draft) -> None:
    """Five current sources into one soma, and three outputs that read it."""
    sources = [draft.input(f"in{i}", (4,), source=s) for i, s in enumerate(("binary", "graded", "signed"))]
    into = [draft.synapse(f"syn{i}", s, {"weights": "ternary"}, units=4) for i, s in enumerate(sources)]
    into.append(draft.product("mixed", sources[1], sources[2], shift=1))
    into.append(draft.synapse("late", sources[0], {"weights": "int8"}, units=4, delay=1))
    subject = draft.soma("subject", into, {"levels": "many", "leak": "decay"})
    draft.output(subject)
    for read in ("count", "payload"):
        draft.nodes.append(Output(f"again_{read}", read))
        draft.edges.append((subject, f"again_{read}", 0))


@_edge
def _widest_payloads(draft: Draft) -> None:
    """Payloads of 24 bits: signed through a relay, unsigned from an excess over a negative threshold."""
    column = np.array([[V_MAX, -V_MAX, 1, -1], [0, 0, V_MAX - 1, 1 - V_MAX]])[[0, 1, 0, 0, 1]][:, None]
    into = _given(draft, "in", column, -V_MAX - 1, V_MAX)
    draft.replace(Synapse(into, "identity"))
    relay = draft.add_soma(Soma("relay", (4,), fire="relay", reset="drop"), [into])
    theta = -V_MAX - 1
    excess = Soma("subject", (4,), fire="excess", reset="drop", theta=theta, out_max=(1 << 24) - 1)
    draft.output(draft.add_soma(excess, [_plain(draft, "on", relay)]))


@_edge
def _largest_products(draft: Draft) -> None:
    """Gain, leak and payload scaling at the ends of their ranges, where products need 39 to 40 bits."""
    values = np.array([[8191, -8191, 3, -3]]) * np.array([1, -1, 1, 1, -1])[:, None, None]
    into = _given(draft, "in", values, -8191, 8191)
    draft.replace(Synapse(into, "identity", exponent=9))
    for i, (gain, leak) in enumerate([(32767, 32767), (-32768, -32768), (32767, -32768)]):
        soma = Soma(
            f"soma{i}",
            (4,),
            gain=gain,
            gain_shift=15,
            leak=leak,
            fire="relay",
            reset="drop",
            out_gain=65535,
            out_shift=[0, 16, 30][i],
        )
        draft.output(draft.add_soma(soma, [into]))
    keeper = Soma("keeper", (4,), gain=-32768, gain_shift=15, leak=-32768, fire="none", v_min=-V_MAX, v_init=V_MAX)
    draft.output(draft.add_soma(keeper, [into]))


@_edge
def _current_wraps_both_ways(draft: Draft) -> None:
    """The synaptic current passes +-2^23 in both directions, more than once."""
    values = np.array([[4095, -4095, 4095, -2048]]) * np.array([1, 1, -1, 1, 1])[:, None, None]
    into = _given(draft, "in", values, -4095, 4095)
    draft.replace(Synapse(into, "identity", exponent=11))
    soma = Soma("subject", (4,), syn_leak=4096, gain=[1, 1, 5, 2], leak=0, fire="relay", reset="drop")
    draft.output(draft.add_soma(soma, [into]))


@_edge
def _thresholds_at_the_limit(draft: Draft) -> None:
    """Thresholds of 2^23 - 1, -2^23 and never, met exactly by saturated potentials."""
    into = _given(draft, "in", np.array([[8191, -8191, 8191, -8191]]), -8191, 8191)
    draft.replace(Synapse(into, "identity", exponent=10))
    for name, theta, reset in (("top", V_MAX, "subtract"), ("bottom", -V_MAX, "zero"), ("never", NEVER, "zero")):
        draft.output(draft.add_soma(Soma(name, (4,), theta=theta, gain=2, reset=reset), [into]))


@_edge
def _many_levels(draft: Draft) -> None:
    """Hundreds of levels, and a ladder of fifty thresholds, some of them equal."""
    into = draft.synapse("into", draft.input("in", (6,), source="graded"), {"weights": "int8"}, units=4)
    draft.output(draft.add_soma(Soma("counted", (4,), theta=7, levels=700), [into]))
    rungs = np.sort(draft.rng.integers(-500, 1500, (50, 4)), axis=0)
    rungs[10:14] = rungs[10]
    ladder = Soma("ladder", (4,), theta=rungs, levels=50, reset="drop", ladder=True)
    draft.output(draft.add_soma(ladder, [into]))


@_edge
def _silent_input(draft: Draft) -> None:
    """No input at all: biases, initial potentials and ladder entries below 0 still make spikes."""
    into = _given(draft, "in", np.zeros((1, 3)), 0, 1)
    draft.output(draft.add_soma(Soma("biased", (3,), theta=5, bias=[1, 2, 3], v_init=4), [into]))
    rungs = np.array([[-1], [0], [0], [4]])
    draft.output(draft.add_soma(Soma("ladder", (3,), theta=rungs, levels=4, reset="drop"), [into]))


@_edge
def _sparse_rows_empty(draft: Draft) -> None:
    """A sparse matrix with empty rows and columns."""
    from scipy import sparse

    into = draft.synapse("into", draft.input("in", (6,), source="graded"), {"weights": "int4"}, units=5)
    matrix = sparse.csr_matrix(([3, -2, 7], ([0, 0, 3], [1, 4, 1])), shape=(5, 6))
    draft.replace(Synapse(into, "linear", matrix))
    draft.output(draft.soma("subject", [into], {"levels": "many"}))


@_edge
def _sums_beyond_float32(draft: Draft) -> None:
    """Odd sums beyond 2^24, which 32-bit floats cannot hold, from 700 inputs and from a convolution of 64 channels.

    A second synapse takes nearly as much away again, so that the last bit of each sum decides.
    """
    for name, shape, size in (("flat", (700,), (3, 700)), ("sheet", (64, 3, 3), (2, 64, 3, 3))):
        values = 255 - 2 * draft.rng.integers(0, 4, (draft.steps, draft.batch, *shape))
        draft.nodes.append(Input(name, shape, 0, 255, coding="steps"))
        draft.raw[name] = draft.payloads[name] = values
        kind, plus = ("linear" if name == "flat" else "conv2d"), 255 - 2 * draft.rng.integers(0, 3, size)
        into = []
        for sign, weight in (("excitatory", plus), ("inhibitory", 2 * draft.rng.integers(0, 2, size) - plus)):
            into.append(draft.synapse(f"{name}_{sign}", name, {"weights": sign}, units=1))
            draft.replace(Synapse(into[-1], kind, weight, 8, sign=sign))
        soma = Soma(f"{name}_soma", draft.shape(into[0]), fire="relay", reset="drop")
        draft.output(draft.add_soma(soma, into))


@_edge
def _changes_follow_changes(draft: Draft) -> None:
    """Sigma-delta neurons in a row: an encoder of the input itself, one that rectifies, one that does not, a sum."""
    encoder: dict[str, Any] = {"fire": "delta", "reset": "keep", "theta": 3, "leak": 0, "gain": 4, "delta_shift": 1}
    into = draft.synapse("into", draft.input("in", (6,), source="signed"), {"kind": "identity", "weights": "ternary"})
    draft.replace(Synapse(into, "identity"))
    first = draft.add_soma(Soma("encoder", (6,), **encoder), [into])
    summed: dict[str, Any] = {"fire": "delta", "reset": "keep", "syn_leak": 4096, "leak": 0}
    rectified: dict[str, Any] = {"v_min": 0, "bias": [9, -7, 0, 30], "delta_shift": 2}
    for name, fields in (("rectified", rectified), ("plain", {})):
        made = draft.synapse(f"to_{name}", first, {"weights": "int4"}, units=4)
        first = draft.add_soma(Soma(name, (4,), theta=[1, 5, 16, 40], **summed, **fields), [made])
        draft.output(first)
    last = draft.synapse("last", first, {"weights": "int8"}, units=2)
    draft.output(draft.add_soma(Soma("sigma", (2,), fire="none"), [last]))


@_edge
def _widest_changes(draft: Draft) -> None:
    """A change between the two ends of the register, 2^24 - 2, sent whole, floored, scaled and clipped."""
    values = np.array([[8191, -8191, 8191, -1]]) * np.array([1, -1, 1, 1, -1])[:, None, None]
    into = _given(draft, "in", values, -8191, 8191)
    draft.replace(Synapse(into, "identity", exponent=11))
    fields: dict[str, dict[str, Any]] = {
        "whole": {"out_max": (1 << 24) - 1},
        "floored": {"delta_shift": 23, "theta": V_MAX},
        "scaled": {"delta_shift": 3, "out_gain": 65535, "out_shift": 30, "out_max": 100, "out_min": -50},
        "rectified": {"v_min": 0, "delta_shift": 1},
    }
    for name, given in fields.items():
        draft.output(
            draft.add_soma(Soma(name, (4,), fire="delta", reset="keep", leak=0, **{"theta": 1, **given}), [into])
        )


@_edge
def _several_delayed_spikes(draft: Draft) -> None:
    """Up to four spikes of one step are all taken off in the next."""
    into = draft.synapse("into", draft.input("in", (6,), source="graded"), {"kind": "identity", "weights": "ternary"})
    draft.replace(Synapse(into, "identity"))
    draft.output(draft.add_soma(Soma("subject", (6,), theta=3, levels=4, reset="subtract-delayed"), [into]))
