"""Where memory runs out the samples run in halves: the same integers, one notice, and an error for a single sample."""

from __future__ import annotations

import gc
import warnings
import weakref

import numpy as np
import pytest
import torch
from snn2chip_backends.torch import TorchBackend, backend
from typer.testing import CliRunner

from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.api import run
from snn2chip.cli import app
from snn2chip.errors import BackendFailure, MachineWarning
from snn2chip.golden import random_samples
from snn2chip.testing.programs import random_program

CPU = "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
FAULTS = {RuntimeError: CPU, MemoryError: "Unable to allocate 9 bytes", torch.cuda.OutOfMemoryError: "out of memory"}


@pytest.fixture
def room(monkeypatch):
    """`room(n, error)`: from now on the engine has memory for n samples; gives the sizes it was asked for."""
    true = backend.evaluate
    monkeypatch.setattr(backend, "run_captured", lambda *_: None)

    def limit(n, error):
        sizes = []

        def evaluate(program, plan, payloads, records):
            sizes.append(records.batch)
            if records.batch > n:
                held = torch.zeros(1)
                held_refs.append(weakref.ref(held))
                raise error(FAULTS[error])
            true(program, plan, payloads, records)

        held_refs = []
        monkeypatch.setattr(backend, "evaluate", evaluate)
        return sizes, held_refs

    return limit


@pytest.mark.parametrize("error", FAULTS, ids=lambda e: e.__name__)
@pytest.mark.parametrize("record", ["all", "outputs"])
def test_halves_give_the_same_and_are_told_in_one_line(room, error, record):
    program = random_program(7).program
    x = random_samples(program, 11)
    want = run(program, x, record=record)
    sizes, _ = room(2, error)
    with pytest.warns(MachineWarning) as told:
        got = run(program, x, record=record, backend=TorchBackend())
    assert [str(w.message) for w in told] == [
        "cpu ran out of memory with 11 samples at a time; it goes on with 2, results are the same"
    ]
    assert sizes == [11, 6, 3, 2, 2, 2, 2, 2, 1]
    assert got.counts == want.counts
    assert got.samples == 11
    for field in ("all_outputs", "payloads", "potentials", "inputs"):
        a, b = getattr(got, field), getattr(want, field)
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in b)


def test_what_did_not_fit_once_is_not_tried_again(room):
    program = random_program(7).program
    sizes, _ = room(2, RuntimeError)
    engine = TorchBackend()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run(program, random_samples(program, 9), backend=engine, block=4)
    assert len(told) == 1
    assert sizes == [4, 2, 2, 2, 2, 1]


def test_a_failed_try_holds_on_to_nothing(room):
    program = random_program(7).program
    _, held = room(4, torch.cuda.OutOfMemoryError)
    with pytest.warns(MachineWarning):
        run(program, random_samples(program, 8), backend=TorchBackend())
    gc.collect()
    assert [ref() for ref in held] == [None]


def test_one_sample_that_does_not_fit_is_an_error(room):
    program = random_program(7).program
    room(0, RuntimeError)
    with pytest.raises(BackendFailure, match="with a single sample"):
        run(program, random_samples(program, 3))


def test_the_command_goes_on_and_says_so_once(room, tmp_path):
    nodes = [Input("a", (4,), 0, 3), Synapse("w", weight=np.eye(4, dtype=int), bits=8), Soma("s", (4,), theta=2)]
    program = Program(
        nodes=[*nodes, Output("o", "count")], edges=[("a", "w"), ("w", "s"), ("s", "o")], steps=2, meta={"name": "p"}
    )
    program.save(tmp_path / "p.s2c")
    np.savez(tmp_path / "x.npz", x=random_samples(program, 6)["a"])
    room(3, MemoryError)
    with pytest.warns(MachineWarning) as told:
        done = CliRunner().invoke(app, ["run", str(tmp_path / "p.s2c"), "--input", str(tmp_path / "x.npz")])
    assert done.exit_code == 0, done.output
    assert len(told) == 1
