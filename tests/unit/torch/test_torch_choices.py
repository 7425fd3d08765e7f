"""Choices of the engine that no integer shows: what is captured, shared by threads, freed early, done in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from snn2chip_backends.torch import TorchBackend, backend, captured, columns, engine, fused, pass_run, plan
from snn2chip_backends.torch import layout as at
from snn2chip_backends.torch.captured import Captures
from snn2chip_backends.torch.memory import AtOnce

from snn2chip.api import run
from snn2chip.errors import InputError
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.threads import torch_threads
from snn2chip.trace import Trace

CPU = torch.device("cpu")
needs_numba = pytest.mark.skipif(fused.compiled_pass() is None, reason="numba is not installed")


@pytest.fixture
def threads() -> Iterator[Any]:
    """`threads(n)`: PyTorch has n threads until the test ends."""
    with torch_threads(torch.get_num_threads()):
        yield torch.set_num_threads


def chain(layers: int, *, steps: int = 3, size: int = 5, levels: int = 7) -> Program:
    """Linear layers and graded somas one after the other."""
    rng = np.random.default_rng(layers)
    nodes: list[Any] = [Input("in", size, 0, 9)]
    edges, last = [], "in"
    for i in range(layers):
        nodes += [Synapse(f"w{i}", "linear", rng.integers(-3, 6, (size, size)))]
        nodes += [Soma(f"n{i}", size, theta=9, levels=levels)]
        edges += [(last, f"w{i}"), (f"w{i}", f"n{i}")]
        last = f"n{i}"
    return Program(nodes=[*nodes, Output("o", "count")], edges=[*edges, (last, "o")], steps=steps)


def equal(program: Program, x: Any, record: Any = "all") -> Trace:
    expected, got = (run(program, x, backend=name, record=record) for name in ("reference", "torch"))
    assert (got.outputs == expected.outputs).all()
    assert got.counts == expected.counts
    for name, payload in expected.payloads.items():
        assert (got.payloads[name] == payload).all()
        assert (got.potentials[name] == expected.potentials[name]).all()
    return got


def test_the_room_of_a_captured_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """T * B * (sizes of inputs and somas) payloads: 3 * 8 * 15 fit here, one sample more does not."""
    program = chain(2)
    program = Program(
        nodes=[*program.nodes[:3], Synapse("w1", "identity"), *program.nodes[4:]], edges=program.edges, steps=3
    )
    captures = Captures(program, TorchBackend().plan(program))
    monkeypatch.setattr(captured, "WORK", 3 * 8 * 15)

    def kind(batch: int, dtype: Any = np.int64) -> Any:
        found = captures.frames({"in": np.ones((3, batch, 5), dtype)})
        return None if found is None else found[0]

    assert kind(8) == (8, 3)
    assert kind(1) == (1, 3)
    assert kind(9) is None
    assert kind(0) is None
    assert kind(8, np.int32) is None


def test_the_parts_of_a_run_that_has_no_room_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for 8 samples: 9 are 5 and 4, 17 three times 6 at most; what is too large alone is not captured."""
    program = chain(2)
    captures = Captures(program, TorchBackend().plan(program))
    monkeypatch.setattr(captured, "WORK", 3 * 8 * 15)
    assert [captures.part(batch) for batch in (1, 8, 9, 16, 17, 24, 25)] == [1, 8, 5, 8, 6, 8, 7]
    monkeypatch.setattr(captured, "WORK", 3 * 15 - 1)
    assert [captures.part(batch) for batch in (1, 2)] == [None, None]


@pytest.mark.parametrize(
    "synapse",
    [
        Synapse("w", "linear", np.diag([1, 0, 0, 0]), sparse=True),
        Synapse("w", "linear", np.ones((4, 4)), shape=(1, 2, 2)),
        Synapse("w", "identity"),
    ],
    ids=["sparse", "a map of channels", "identity"],
)
def test_what_is_not_played_in_parts(synapse: Synapse) -> None:
    program = Program(
        nodes=[Input("in", 4, 0, 9), synapse, Soma("n", synapse.shape or 4, theta=9, levels=7), Output("o", "count")],
        edges=[("in", "w"), ("w", "n"), ("n", "o")],
        steps=3,
    )
    captures = Captures(program, TorchBackend().plan(program))
    assert captures.part(captured.WORK // (3 * 8)) is not None
    assert captures.part(captured.WORK // (3 * 8) + 1) is None


def test_what_threads_share_is_not_captured(threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From `ALONE` updates of one soma on: convolutions with two threads, dense layers with more than four."""
    monkeypatch.setattr(fused, "ALONE", 4 * 3 * 5)
    dense, window = chain(2), np.ones((1, 1, 1, 1), int)
    planes = Program(
        nodes=[
            Input("in", (1, 1, 5), 0, 9),
            Synapse("s", "conv2d", window),
            Soma("n", (1, 1, 5), theta=3),
            Output("o", "count"),
        ],
        edges=[("in", "s"), ("s", "n"), ("n", "o")],
        steps=3,
    )
    for program, shape, most in ((dense, (5,), captured.THREADS), (planes, (1, 1, 5), 1)):
        captures = Captures(program, TorchBackend().plan(program))

        def kept(batch: int, captures: Captures = captures, shape: tuple[int, ...] = shape) -> bool:
            return captures.frames({"in": np.ones((3, batch, *shape), np.int64)}) is not None

        threads(most + 1)
        assert [kept(batch) for batch in (3, 4, 5)] == [True, False, False]
        threads(most)
        assert [kept(batch) for batch in (3, 4, 5)] == [True, True, True]


@needs_numba
def test_threads_from_the_size_on_that_repays_them(threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """B * T * N updates: 4 * 3 * 5 are one thread's work here where `ALONE` is one more."""
    used: list[int] = []
    shared = pass_run._shared

    def spy(*given: Any) -> None:
        used.append(given[3])
        shared(*given)

    monkeypatch.setattr(pass_run, "_shared", spy)
    threads(3)
    program, x = chain(1), np.arange(20).reshape(4, 5) % 10
    for alone, expected in ((61, []), (60, [3]), (1, [3])):
        used.clear()
        monkeypatch.setattr(fused, "ALONE", alone)
        equal(program, x)
        assert used == expected
    used.clear()
    equal(program, x[:2])
    assert used == [2]  # no more threads than samples


@needs_numba
@pytest.mark.parametrize("record", ["all", "outputs"])
@pytest.mark.parametrize("number", [1, 2])
def test_slices_by_threads(record: str, number: int, threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples three at a time, the last slice two, by one thread or two: every sample and count in its place."""
    monkeypatch.setattr(fused, "ALONE", 0)
    monkeypatch.setattr(captured, "WORK", 0)
    threads(number)
    program = chain(2)
    small = TorchBackend()
    monkeypatch.setitem(plan.SLICE_BYTES, "cpu", 3 * plan._slice_bytes(program, program.somas[1], *_kept(program)))
    assert small.plan(program).slices == {"n0": 3, "n1": 3}
    x = np.random.default_rng(0).integers(0, 10, (11, 5))
    assert equal(program, x, record).outputs.any()


def _kept(program: Program) -> tuple[frozenset[str], Any]:
    made = plan._plan(program, CPU)
    return made.inlined, made.payloads


@needs_numba
@pytest.mark.parametrize(("currents", "scaled"), [(at.MOST_SOURCES, True), (at.MOST_SOURCES + 1, False)])
def test_as_many_currents_as_a_pass_takes(currents: int, scaled: bool) -> None:
    """Identity synapses are factors in the pass itself, up to its number of sources."""
    names = [f"s{i}" for i in range(currents)]
    program = Program(
        nodes=[
            Input("in", 4, -9, 9),
            *(Synapse(name, "identity", i + 1) for i, name in enumerate(names)),
            Soma("n", 4, theta=20, levels=50),
            Output("o", "payload"),
        ],
        edges=[*(("in", name) for name in names), *((name, "n") for name in names), ("n", "o")],
        steps=2,
    )
    assert TorchBackend().plan(program).scaled == (frozenset(names) if scaled else frozenset())
    assert equal(program, np.arange(-8, 8).reshape(4, 4)).outputs.any()


@needs_numba
@pytest.mark.parametrize("read", ["count", "payload"])
@pytest.mark.parametrize("steps", [128, 129])
@pytest.mark.parametrize("work", [0, 1 << 21])
def test_sums_over_steps_beyond_32_bits(read: str, steps: int, work: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """128 * (2^24 - 1) is the last sum per sample below 2^31; captured runs and others know it."""
    monkeypatch.setattr(captured, "WORK", work)
    top = (1 << 24) - 1
    soma = Soma("n", 2, fire="relay", reset="drop", out_gain=4, out_max=top)
    program = Program(
        nodes=[Input("in", 2, 0, 1 << 22, coding="steps"), Synapse("s", "identity"), soma, Output("o", read)],
        edges=[("in", "s"), ("s", "n"), ("n", "o")],
        steps=steps,
    )
    x = np.tile([[1 << 22, 0], [3, 1 << 22]], (steps, 1, 1))
    for record in ("outputs", "all"):
        got = equal(program, x, record)
        assert got.counts.sources["n"]["payload_sum"] == steps * (2 * top + 12)


def test_values_nobody_reads_any_more_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Along a chain at most a layer's payloads and its currents are alive, whatever the depth."""
    alive: list[set[str]] = []
    free = engine._Block.free

    def spy(self: Any, names: list[str]) -> None:
        free(self, names)
        alive.append(set(self.values))

    monkeypatch.setattr(engine._Block, "free", spy)
    monkeypatch.setattr(captured, "WORK", 0)
    run(chain(6), np.ones((2, 5), int), backend=TorchBackend(), record="outputs")
    assert max(map(len, alive)) == 1
    assert alive[-1] == set()


def test_samples_that_fit_are_handed_on_as_they_are() -> None:
    """No views of the whole: the engine tells a frame that holds for all steps by its strides."""
    seen: list[Any] = []
    inputs = {"in": np.zeros((3, 4, 5), np.int64)}

    def once(given: Any) -> Any:
        seen.append(given)
        return None

    AtOnce(CPU).run(once, inputs)
    AtOnce(CPU, most=4).run(once, inputs)
    assert [given is inputs for given in seen] == [True, True]


def test_columns_of_as_many_samples_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """C * kh * kw * H' * W' columns per sample, 4 bytes each: 3*3*2*4*3 here, for three samples at a time."""
    sizes: list[int] = []
    made = columns._columns

    def spy(s: Synapse, payload: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(payload))
        return made(s, payload, *rest)

    monkeypatch.setattr(columns, "_columns", spy)
    monkeypatch.setitem(columns.COLUMN_BYTES, "cpu", 3 * (3 * 3 * 2 * 4 * 3 * 4) + 5)
    rng = np.random.default_rng(0)
    s = Synapse("s", "conv2d", rng.integers(-3, 4, (2, 3, 3, 2)))
    x = rng.integers(0, 5, (8, 3, 6, 4))
    got = columns.column_convolution(s, torch.float32, (3, 6, 4), CPU)(torch.from_numpy(x).float())
    assert sizes == [3, 3, 2]
    expected = torch.nn.functional.conv2d(torch.from_numpy(x).double(), torch.tensor(s.weight).double())
    assert torch.equal(got.double(), expected)


@pytest.mark.parametrize("samples", [1, 2, 7])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_samples_side_by_side(number: int, samples: int, threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread has samples of its own, and PyTorch one thread in it; the user's number stays what it was."""
    seen: list[tuple[int, int]] = []
    true = backend.evaluate

    def evaluate(program: Program, made: Any, payloads: Any, records: Any) -> None:
        seen.append((records.batch, torch.get_num_threads()))
        true(program, made, payloads, records)

    monkeypatch.setattr(backend, "evaluate", evaluate)
    monkeypatch.setattr(captured, "WORK", 0)
    threads(number)
    x = np.random.default_rng(0).integers(0, 10, (samples, 5))
    assert equal(chain(3), x, "outputs").outputs.shape == (samples, 5)
    parts = min(number, samples)
    assert sorted(seen) == sorted(
        (samples * (i + 1) // parts - samples * i // parts, 1 if parts > 1 else number) for i in range(parts)
    )
    assert torch.get_num_threads() == number


@needs_numba
@pytest.mark.parametrize(("number", "samples", "inside"), [(1, 4, 1), (2, 4, 1), (4, 4, 1), (5, 4, 5), (2, 1, 2)])
def test_small_dense_runs_are_played_by_one(
    number: int, samples: int, inside: int, threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where up to four threads could share them; a single sample stays with the caller."""
    seen: list[int] = []
    true = captured._played

    def spy(*given: Any) -> Any:
        seen.append(torch.get_num_threads())
        return true(*given)

    monkeypatch.setattr(captured, "_played", spy)
    threads(number)
    assert equal(chain(2), np.full((samples, 5), 7), "outputs").outputs.any()
    assert seen == [inside]
    assert torch.get_num_threads() == number


def test_a_refusal_names_all_samples(threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sentence with one thread and with two, of which one alone meets the smallest payload."""
    monkeypatch.setattr(captured, "WORK", 0)
    x = np.broadcast_to(np.array([[-3] * 5, [1] * 5, [2] * 5, [77] * 5]), (3, 4, 5))
    told = []
    for number in (1, 2):
        threads(number)
        with pytest.raises(InputError) as error:
            TorchBackend().run(chain(1), {"in": x}, record="outputs")
        told.append(str(error.value))
    assert told[0] == told[1]
    assert "-3..77" in told[0]
