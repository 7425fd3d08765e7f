"""Captured runs: the same outputs and counts as the reference, whatever was run before, by whom, and which way."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from snn2chip_backends.torch import TorchBackend, captured, fused, int8, linear
from snn2chip_backends.torch.captured import KINDS

from snn2chip.api import coded_inputs, run
from snn2chip.errors import InputError, MachineWarning
from snn2chip.ir.nodes import Input, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import get_backend
from snn2chip.testing.cases import covering_cases

pytestmark = pytest.mark.skipif(fused.compiled_pass() is None, reason="numba is not installed")


def mlp(steps: int = 3, *, top: int = 255, coding: str = "repeat", read: str = "potential") -> Program:
    """Two hidden layers, the second graded; weights at the ends of 8 bits, zeros among them."""
    rng = np.random.default_rng(0)
    weights = [rng.choice([-128, 127, 0, 3], size=shape) for shape in ((40, 96), (24, 40), (5, 24))]
    silent = read == "potential"
    last = Soma("n2", 5, fire="none") if silent else Soma("n2", 5, theta=900, levels=3)
    return Program(
        nodes=[
            Input("in", 96, 0, top, coding=coding),
            Synapse("w0", "linear", weights[0]),
            Soma("n0", 40, theta=20_000, bias=np.arange(40)),
            Synapse("w1", "linear", weights[1], exponent=1),
            Soma("n1", 24, theta=300, levels=7, leak=4000),
            Synapse("w2", "linear", weights[2]),
            last,
            Output("out", read),
        ],
        edges=[("in", "w0"), ("w0", "n0"), ("n0", "w1"), ("w1", "n1"), ("n1", "w2"), ("w2", "n2"), ("n2", "out")],
        steps=steps,
    )


def same(program: Program, coded: Any) -> Any:
    """Outputs and counts of the torch backend against the reference."""
    expected = get_backend("reference").run(program, coded, record="outputs")
    got = TorchBackend().run(program, coded, record="outputs")
    assert got.outputs.dtype == np.int64
    for name, values in expected.all_outputs.items():
        assert (got.all_outputs[name] == values).all()
    assert got.counts == expected.counts
    for group in (got.counts.sources, got.counts.synapses):  # exact at any size, so never a float
        assert {type(n) for fields in group.values() for n in fields.values()} <= {int}
    return got


def kinds(program: Program) -> dict[Any, Any]:
    return captured._CAPTURES[program]._free


def test_conformance_programs_that_are_captured() -> None:
    found = 0
    for case in covering_cases():
        for _ in range(2):
            same(case.program, case.coded)
        found += any(free for free in kinds(case.program).values())
    assert found > 15


@pytest.mark.parametrize("read", ["potential", "count", "payload"])
@pytest.mark.parametrize("steps", [1, 3])
def test_batches_take_turns(read: str, steps: int) -> None:
    """More batch sizes than are kept, each several times, with `record="all"` and refused samples between."""
    program, rng, fired = mlp(steps, read=read), np.random.default_rng(1), False
    for batch in [1, 2, 7, 1, 64, 3, 5, 1, 2, 7] * 2:
        x = rng.integers(0, 256, size=(batch, 96)) * (rng.random((batch, 96)) < rng.choice([0.02, 1.0]))
        coded = coded_inputs(program, x)
        fired |= bool(same(program, coded).outputs.any())
        whole = run(program, x, backend="torch", record="all")
        assert (whole.outputs == same(program, coded).outputs).all()
        with pytest.raises(InputError, match="outside the declared range"):
            TorchBackend().run(program, {"in": coded["in"] + (x.size * 300)}, record="outputs")
    assert fired
    assert len(kinds(program)) == KINDS
    assert all(len(free) == 1 for free in kinds(program).values())


@pytest.mark.parametrize("top", [1, 127, 255])
@pytest.mark.parametrize("coding", ["repeat", "steps"])
@pytest.mark.parametrize("read", ["potential", "count", "payload"])
def test_larger_batches_are_played_in_equal_parts(
    top: int, coding: str, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One part, equal ones and a smaller last one; all, few and no payloads, the refused among the last samples."""
    program, rng, fired = mlp(coding=coding, top=top, read=read), np.random.default_rng(7), False
    monkeypatch.setattr(captured, "WORK", 3 * (96 + 40 + 24 + 5) * 8)
    frames = 3 if coding == "steps" else 1
    for batch, parts in ((8, {8}), (16, {8}), (9, {5, 4}), (23, {8, 7})):
        captured._CAPTURES.pop(program, None)
        for active in (1.0, 0.05, 0.0):
            x = rng.integers(0, top + 1, size=(3, batch, 96)) * (rng.random((3, batch, 96)) < active)
            coded = {"in": x if frames == 3 else np.broadcast_to(x[:1], x.shape)}
            fired |= bool(same(program, coded).outputs.any())
        assert {kind[0] for kind in kinds(program)} == parts
        assert {kind[1] for kind in kinds(program)} == {frames}
        assert all(len(free) == 1 for free in kinds(program).values())
        refused = np.array(coded["in"])
        refused[:, -1, 7] = top + 1
        with pytest.raises(InputError, match=f"payloads 0..{top + 1} are outside the declared range"):
            TorchBackend().run(program, {"in": refused}, record="outputs")
    assert fired or top == 1


def test_a_part_that_is_interrupted_or_has_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C leaves at once; where memory runs out, half of the samples at a time give the same."""
    program, rng = mlp(), np.random.default_rng(8)
    monkeypatch.setattr(captured, "WORK", 3 * (96 + 40 + 24 + 5) * 8)
    coded = coded_inputs(program, rng.integers(0, 256, size=(32, 96)))
    same(program, coded)
    played, plain, failing = [], captured.Captured.run, [KeyboardInterrupt(), MemoryError(), None]

    def run_or_fail(self: Any, frames: Any, ranges: Any) -> Any:
        played.append(frames[0].shape[1])
        if len(played) == 2 and (error := failing.pop(0)) is not None:
            raise error
        return plain(self, frames, ranges)

    monkeypatch.setattr(captured.Captured, "run", run_or_fail)
    with pytest.raises(KeyboardInterrupt):
        TorchBackend().run(program, coded, record="outputs")
    assert played == [8, 8]
    played.clear()
    with pytest.warns(MachineWarning, match="32 samples at a time; it goes on with 16"):
        same(program, coded)
    assert played == [8, 8, 8, 8, 8, 8]
    played.clear()
    same(program, coded)
    assert played == [8, 8, 8, 8]


def test_frames_of_every_form() -> None:
    """One frame for all steps, a frame per step, views with gaps, backwards, in Fortran order, in other types."""
    program, rng = mlp(), np.random.default_rng(2)
    x = rng.integers(0, 256, size=(3, 4, 96))
    wide = rng.integers(0, 256, size=(6, 8, 192))
    forms = [x, wide[::2, ::2, ::2], x[::-1, ::-1, ::-1], np.asfortranarray(x), np.broadcast_to(x[:1], x.shape)]
    forms += [x.astype(np.int32), wide[:3, :4, :96], np.broadcast_to(x[:, :1], x.shape)]
    results = [same(program, {"in": form}).outputs for form in forms]
    assert (results[0] == results[3]).all()
    assert (results[0] == results[5]).all()
    assert set(kinds(program)) == {(4, 1), (4, 3)}


def test_shapes_that_do_not_fit_are_never_read() -> None:
    program = mlp()
    TorchBackend().run(program, {"in": np.zeros((3, 2, 96), np.int64)}, record="outputs")
    for shape in ((3, 2, 95), (2, 2, 96), (3, 2, 8, 12)):
        assert captured._CAPTURES[program].frames({"in": np.zeros(shape, np.int64)}) is None


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_products_of_payloads(batch: int) -> None:
    """T * B * 4 multiplications of payloads, 3 * B * 4 here, in a captured run as in the reference."""
    relay: dict[str, Any] = {"fire": "relay", "reset": "drop", "out_max": 99}
    program = Program(
        nodes=[
            Input("in", 4, 0, 99, coding="steps"),
            *(Synapse(f"{name}_in", "identity") for name in "pq"),
            *(Soma(name, 4, **relay) for name in "pq"),
            Product("product", shift=2),
            Soma("n", 4, theta=50, levels=7),
            Output("out", "count"),
        ],
        edges=[
            *((a, b) for name in "pq" for a, b in (("in", f"{name}_in"), (f"{name}_in", name), (name, "product"))),
            ("product", "n"),
            ("n", "out"),
        ],
        steps=3,
    )
    x = np.random.default_rng(5).integers(0, 100, (3, batch, 4))
    got = same(program, {"in": x})
    assert got.counts.products == {"product": 3 * batch * 4}
    assert got.outputs.any()
    assert list(kinds(program)) == [(batch, 3)]
    assert kinds(program)[batch, 3]


def test_outputs_belong_to_the_caller() -> None:
    program, rng = mlp(read="count"), np.random.default_rng(3)
    first = coded_inputs(program, rng.integers(0, 256, size=(4, 96)))
    trace = TorchBackend().run(program, first, record="outputs")
    kept, counts = trace.outputs.copy(), trace.counts.totals
    trace.outputs[:] = 77
    again = TorchBackend().run(program, first, record="outputs")
    TorchBackend().run(program, coded_inputs(program, np.zeros((4, 96), np.int64)), record="outputs")
    assert (again.outputs == kept).all()
    assert trace.counts.totals == counts


@pytest.mark.parametrize("call", [0.0, 1e12], ids=["library", "events"])
@pytest.mark.parametrize("top", [1, 127, 255, 16383])
def test_events_and_library_agree(call: float, top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of a linear synapse at the ends of its range: all digits, all weights at their extremes."""
    monkeypatch.setattr(linear, "CALL", call)
    if call == 0:
        monkeypatch.setattr(linear, "PRODUCT", 0.0)
        monkeypatch.setattr(linear, "FLOAT_CALL", 0.0)
        monkeypatch.setattr(linear, "FLOAT_PRODUCT", 0.0)
    program = mlp(top=top)
    for x in (np.full((9, 96), top), np.zeros((9, 96), np.int64), np.eye(9, 96, dtype=np.int64) * top):
        same(program, coded_inputs(program, x))


@pytest.mark.skipif(int8.products_of_bytes() is None, reason="no products of bytes here")
def test_the_switch_follows_the_activity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library product for busy samples, events for nearly silent ones, in the same captured run."""
    monkeypatch.setattr(linear, "CALL", 3_000.0)
    chosen: list[bool] = []
    move = linear.LinearMove.__call__

    def spy(self: Any) -> None:
        self.alive = []
        move(self)
        chosen.append(bool(self.alive))

    monkeypatch.setattr(linear.LinearMove, "__call__", spy)
    program, rng = mlp(top=1, coding="steps"), np.random.default_rng(4)
    for rate, by_library in ((1.0, True), (0.0, False), (1.0, True)):
        chosen.clear()
        same(program, {"in": (rng.random((3, 64, 96)) < rate).astype(np.int64)})
        assert chosen[0] is by_library


def test_threads_share_a_program() -> None:
    program, rng = mlp(), np.random.default_rng(5)
    given = [coded_inputs(program, rng.integers(0, 256, size=(1 + i % 3, 96))) for i in range(24)]
    expected = [get_backend("reference").run(program, x, record="outputs") for x in given]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: TorchBackend().run(program, x, record="outputs"), given * 4))
    for got, wanted in zip(found, expected * 4, strict=True):
        assert (got.outputs == wanted.outputs).all()
        assert got.counts == wanted.counts


def test_a_program_is_let_go_with_what_was_captured() -> None:
    program = mlp()
    same(program, coded_inputs(program, np.full((2, 96), 99)))
    seen = weakref.ref(program)
    del program
    gc.collect()
    assert seen() is None
