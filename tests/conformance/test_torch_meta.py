"""The path that a GPU takes, on PyTorch's meta device: no tensor strays to the CPU, nothing waits for a value.

Meta tensors have shapes and types but no values: reading one (a host sync) and mixing one with a CPU tensor
both raise. So every covering program must run through, and give payloads of the right shape and type.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from snn2chip_backends.torch import columns, plan
from snn2chip_backends.torch.engine import evaluate, put_inputs
from snn2chip_backends.torch.exact import float_type
from snn2chip_backends.torch.records import Records
from snn2chip_backends.torch.sample import SomaRun
from snn2chip_backends.torch.somas import tensor_type

from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.testing.cases import Case, covering_cases

META = torch.device("meta")


class Shapes(Records):
    """Records that also note the shape and type of every soma's payload."""

    def soma(self, name: str, run: SomaRun) -> None:
        """Check one soma's result before it is recorded."""
        assert run.payload.is_meta
        assert run.payload.shape[1:] == (self.batch, *self.program.shapes[name])
        assert len(run.payload) in (1, self.program.steps)
        assert run.payload.dtype == tensor_type(self.kinds[name])
        super().soma(name, run)


def go(program: Program, coded: object) -> Shapes:
    made = plan.plan_for(program, META)
    with torch.inference_mode():
        payloads = put_inputs(program, made, coded, META)  # type: ignore[arg-type]
        records = Shapes(program, made.payloads, next(iter(payloads.values())).shape[1], everything=False)
        evaluate(program, made, payloads, records)
    return records


@pytest.fixture(autouse=True)
def _budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plan.SLICE_BYTES, "meta", plan.SLICE_BYTES["cuda"])
    monkeypatch.setitem(columns.COLUMN_BYTES, "meta", columns.COLUMN_BYTES["cuda"])


CASES = [case for case in covering_cases() if not any(s.sparse for s in case.program.synapses)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_covering_programs(case: Case) -> None:
    records = go(case.program, case.coded)
    assert set(records._outputs) == {output.name for output in case.program.outputs}


def test_a_stray_wait_would_be_noticed() -> None:
    with pytest.raises((NotImplementedError, RuntimeError)):
        int(torch.zeros((), device=META))
    with pytest.raises(RuntimeError):
        torch.zeros(3, device=META) + torch.zeros(3)


def test_float64_convolution_too() -> None:
    assert float_type(1 << 30) == torch.float64
    program = Program(
        nodes=[
            Input("in", (2, 6, 6), 0, 1 << 20),
            Synapse("c", "conv2d", np.full((4, 1, 3, 3), 127), groups=2, padding=1),
            Soma("n", (4, 6, 6), theta=1 << 20, levels=7),
            Output("o", "count"),
        ],
        edges=[("in", "c"), ("c", "n"), ("n", "o")],
        steps=2,
    )
    assert go(program, {"in": np.ones((2, 3, 2, 6, 6), np.int64)})._outputs["o"].shape == (3, 4, 6, 6)
