"""Every road through the torch backend gives the reference's integers: compiled or not, threads, bytes, short runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from snn2chip_backends.torch import fused, int8, plan, pooled, sample, somas

from snn2chip.api import run
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import get_backend
from snn2chip.testing.conformance import cases, check_case
from snn2chip.threads import torch_threads

Patch = pytest.MonkeyPatch
CASES = tuple(cases())
PARTS = 15  # of few programs each, so that a change of the engine is found in a second or two


def no_numba(patch: Patch) -> None:
    for module, name in ((somas, "compiled_pass"), (pooled, "compiled_pass")):
        patch.setattr(module, name, lambda: None)


def no_bytes(patch: Patch) -> None:
    patch.setattr(int8, "products_of_bytes", lambda: None)


def bytes_everywhere(patch: Patch) -> None:
    patch.setattr(int8, "LARGE", 0)


def two_threads(patch: Patch) -> None:
    torch.set_num_threads(2)
    patch.setattr(fused, "ALONE", 0)


def short_runs(patch: Patch) -> None:
    """Runs of few neurons, slices of one sample, counts that go to 64 bits all the time."""
    patch.setattr(fused, "RUN", 3)
    patch.setattr(fused, "COUNTED", 2)
    patch.setattr(plan, "SLICE_BYTES", {"cpu": 1})


ROADS: dict[str, tuple[Callable[[Patch], None], ...]] = {
    "no numba": (no_numba,),
    "no numba, no bytes": (no_numba, no_bytes),
    "no bytes": (no_bytes,),
    "bytes everywhere": (bytes_everywhere,),
    "two threads": (two_threads, bytes_everywhere),
    "short runs": (short_runs, bytes_everywhere),
}


@pytest.fixture
def fresh(monkeypatch: Patch) -> Iterator[Patch]:
    """Plans made anew, threads as before afterwards."""
    monkeypatch.setattr(plan, "_PLANS", WeakKeyDictionary())
    with torch_threads(torch.get_num_threads()):
        yield monkeypatch


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("road", ROADS)
def test_covering_programs(road: str, part: int, fresh: Patch) -> None:
    for change in ROADS[road]:
        change(fresh)
    chosen = CASES[part::PARTS]
    assert len(chosen) >= 90 // PARTS
    backend = get_backend("torch")
    for case in chosen:
        check_case(backend, case)


def test_the_roads_are_taken(fresh: Patch) -> None:
    """Without numba the steps run in PyTorch; with it, the compiled pass runs."""
    if fused.compiled_pass() is None:
        pytest.skip("numba is not installed")
    program = Program(
        nodes=[Input("in", 3, 0, 9), Synapse("s", "identity"), Soma("n", 3, theta=4), Output("o", "count")],
        edges=[("in", "s"), ("s", "n"), ("n", "o")],
        steps=3,
    )
    steps: list[int] = []
    real = sample._steps
    fresh.setattr(sample, "_steps", lambda *a: (steps.append(1), real(*a))[1])
    found = [run(program, np.array([[3, 5, 0]]), backend="torch").outputs]
    with_numba = len(steps)
    fresh.setattr(plan, "_PLANS", WeakKeyDictionary())
    no_numba(fresh)
    found.append(run(program, np.array([[3, 5, 0]]), backend="torch").outputs)
    assert with_numba == 0 < len(steps)
    assert all((outputs == [[2, 3, 0]]).all() for outputs in found)  # 3, 6-4+3=5, 1+3=4; 5, 1+5=6, 2+5=7
