"""The whole path of a GPU on tensors without values: kernels are launched, no number is read, no tensor strays.

Reading a value of a meta tensor (a host sync) and mixing it with a CPU tensor both raise.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import pytest
import torch
from snn2chip_backends.torch import columns, plan, somas, synapses, tensor_cores
from snn2chip_backends.torch.engine import evaluate, put_inputs
from snn2chip_backends.torch.gpu_records import GpuRecords
from snn2chip_backends.torch.tensor_cores import UNITS

from snn2chip.testing.cases import Case, covering_cases

META = torch.device("meta")


class Silent:
    """Kernels that are launched and do nothing."""

    SOURCES, PARAMETERS = 3, 19

    def __init__(self) -> None:
        self.launched: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.isupper():
            return 1
        kernels = self

        class Launch:
            def __getitem__(self, grid: tuple[int, ...]) -> Any:
                assert all(isinstance(n, int) and n > 0 for n in grid)

                def launch(*args: Any, **options: Any) -> None:
                    assert all(a.is_meta for a in args if isinstance(a, torch.Tensor))
                    assert not any(isinstance(v, torch.Tensor) for v in options.values())
                    kernels.launched.append(name)

                return launch

        return Launch()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Silent:
    """Meta tensors take the path of CUDA."""
    kernels = Silent()
    monkeypatch.setattr(plan, "_PLANS", WeakKeyDictionary())
    monkeypatch.setattr(somas, "soma_kernels", lambda device: kernels)
    monkeypatch.setattr(tensor_cores, "product_kernels", lambda device: kernels)
    monkeypatch.setattr(tensor_cores, "BYTES_ON", ("meta",))
    monkeypatch.setattr(synapses, "sound_units", lambda device: UNITS)
    monkeypatch.setitem(plan.SLICE_BYTES, "meta", plan.SLICE_BYTES["cuda"])
    monkeypatch.setitem(columns.COLUMN_BYTES, "meta", columns.COLUMN_BYTES["cuda"])
    return kernels


CASES = [case for case in covering_cases() if not any(s.sparse for s in case.program.synapses)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_covering_programs(case: Case, silent: Silent) -> None:
    made = plan.plan_for(case.program, META)
    with torch.inference_mode():
        payloads = put_inputs(case.program, made, case.coded, META)
        records = GpuRecords(case.program, made.payloads, int(case.row["batch"]), META, everything=False)
        evaluate(case.program, made, payloads, records)
    outside = [name for names, feedback in made.components if not feedback for name in names]
    expected = sum(made.somas[name].gpu is not None for name in outside if name in made.somas)
    assert silent.launched.count("soma") >= expected
    assert all(value.is_meta for value in records._outputs.values())
    with pytest.raises((NotImplementedError, RuntimeError)):
        records.counts()  # here a GPU would be waited for
