"""Counts made on the device equal those made on the host; replayed blocks equal fresh ones. Without a GPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from snn2chip_backends.torch import TorchBackend, gpu_graphs, gpu_records
from snn2chip_backends.torch.engine import put_inputs
from snn2chip_backends.torch.gpu_graphs import Graphs, why_no_graph
from snn2chip_backends.torch.gpu_records import GpuRecords
from snn2chip_backends.torch.records import Records

from snn2chip.ir.program import Program
from snn2chip.testing.cases import Case, covering_cases

CPU = torch.device("cpu")


def on_device(program: Program, kinds: object, batch: int, device: torch.device, *, everything: bool) -> Records:
    return GpuRecords(program, kinds, batch, device, everything=everything)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", covering_cases()[::3], ids=str)
def test_counts_made_on_the_device(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from snn2chip_backends.torch.engine import evaluate

    backend = TorchBackend()
    plan = backend.plan(case.program)
    payloads = put_inputs(case.program, plan, case.coded, CPU)
    records = GpuRecords(case.program, plan.payloads, int(case.row["batch"]), CPU, everything=False)
    evaluate(case.program, plan, payloads, records)
    trace = records.trace("torch")
    assert trace.counts == case.expected.counts
    assert all((trace.all_outputs[name] == value).all() for name, value in case.expected.all_outputs.items())


def replayed(work: Callable[[], Records]) -> tuple[Records, Callable[[], None]]:
    """A capture as CUDA makes it: the same tensors are written again, their old values gone."""
    records = work()
    for tensor in (*records._outputs.values(), records._totals):  # type: ignore[attr-defined]
        tensor.fill_(-7)

    def replay() -> None:
        again = work()
        for name, value in again._outputs.items():
            records._outputs[name].copy_(value)
        records._totals.copy_(again._totals)  # type: ignore[attr-defined]

    return records, replay


@pytest.mark.parametrize("case", [c for c in covering_cases()[::9] if c.row.get("sparse") != "csr"], ids=str)
def test_blocks_are_replayed_from_the_second_on(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_graphs, "records_for", on_device)
    backend, graphs = TorchBackend(), Graphs(replayed)
    plan = backend.plan(case.program)
    found = []
    for shift in range(4):
        coded = {k: np.roll(v, shift, axis=1) for k, v in case.coded.items()}
        payloads = put_inputs(case.program, plan, coded, CPU)
        if any(gpu_graphs.runs_sparse(s) for s in case.program.synapses):
            assert "sparse" in why_no_graph(case.program, plan, payloads)
            return
        got = graphs.run(case.program, plan, payloads, "torch")
        assert (got is None) == (shift == 0)
        if got is not None:
            found.append((got, run_coded(case.program, coded)))
    for got, expected in found:  # all of them at the end: no trace may share memory with the graph
        assert got.counts == expected.counts
        assert all((got.all_outputs[k] == v).all() for k, v in expected.all_outputs.items())


def run_coded(program: Program, coded: dict[str, np.ndarray]) -> object:
    from snn2chip.registry import get_backend

    return get_backend("reference").run(program, coded)


def test_what_cannot_be_captured_runs_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    case = covering_cases()[0]
    plan = TorchBackend().plan(case.program)
    tried: list[int] = []

    def refused(work: Callable[[], Records]) -> tuple[Records, Callable[[], None]]:
        tried.append(1)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    graphs = Graphs(refused)
    for _ in range(4):
        payloads = put_inputs(case.program, plan, case.coded, CPU)
        assert graphs.run(case.program, plan, payloads, "torch") is None
    assert tried == [1]
    assert graphs.why == "not captured: operation not permitted when stream is capturing"
    monkeypatch.setenv("SNN2CHIP_GRAPHS", "0")
    assert "SNN2CHIP_GRAPHS" in why_no_graph(case.program, plan, put_inputs(case.program, plan, case.coded, CPU))
    monkeypatch.delenv("SNN2CHIP_GRAPHS")
    monkeypatch.setattr(gpu_graphs, "SMALL_BYTES", 0)
    assert "size" in why_no_graph(case.program, plan, put_inputs(case.program, plan, case.coded, CPU))


def test_few_graphs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    case = covering_cases()[0]
    plan, graphs = TorchBackend().plan(case.program), Graphs(replayed)
    monkeypatch.setattr(gpu_graphs, "records_for", on_device)
    for batch in range(1, 7):
        for turn in range(2):
            coded = {k: np.repeat(v[:, :1], batch, axis=1) for k, v in case.coded.items()}
            got = graphs.run(case.program, plan, put_inputs(case.program, plan, coded, CPU), "torch")
            assert (got is not None) == (turn == 1 and batch <= gpu_graphs.MOST_GRAPHS)


def test_uniform_fans_are_numbers() -> None:
    case = covering_cases()[0]
    fans = gpu_records.fans_on(case.program, CPU)
    assert set(fans) == {s.name for s in case.program.synapses}
    assert gpu_records.fans_on(case.program, CPU) is fans
