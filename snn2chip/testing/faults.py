"""Deliberate mistakes: each is `Rules` with one rule done wrong, the way people get it wrong.

A test suite that lets one of these pass is not a test suite. `FAULTS[name]` is a subclass of `Rules`;
`Witness(FAULTS[name]())` is a backend with that mistake. `MACHINE_FAULTS` are mistakes in machine time
(skews, buffers, sample boundaries), backends of their own.
"""

from __future__ import annotations

from snn2chip.ir.program import Edge
from snn2chip.ir.soma import Soma
from snn2chip.testing.fault_tools import Registry
from snn2chip.testing.faults_neuron import NEURON_FAULTS
from snn2chip.testing.faults_wiring import WIRING_FAULTS
from snn2chip.testing.machine import Machine, Moment
from snn2chip.testing.rules import Index

FAULTS: Registry = {**NEURON_FAULTS, **WIRING_FAULTS}
MACHINE_FAULTS: dict[str, type[Machine]] = {}


def _machine_fault(cls: type[Machine]) -> type[Machine]:
    MACHINE_FAULTS[cls.__name__] = cls
    return cls


@_machine_fault
class HopsCostNothing(Machine):
    """Payloads arrive in the machine step in which they are sent."""

    def reads_at(self, edge: Edge, dst: str, m: int) -> int:
        return super().reads_at(edge, dst, m) + 1


@_machine_fault
class SkewOffByOne(Machine):
    """Payloads arrive one machine step late."""

    def reads_at(self, edge: Edge, dst: str, m: int) -> int:
        return super().reads_at(edge, dst, m) - 1


@_machine_fault
class BuffersMissing(Machine):
    """Paths of different length are not balanced."""

    def reads_at(self, edge: Edge, dst: str, m: int) -> int:
        return m - 1


@_machine_fault
class StaleMessages(Machine):
    """Messages of another sample are not discarded."""

    def keeps(self, message_sample: int, sample: int) -> bool:
        return True


@_machine_fault
class StartsOneStepLate(Machine):
    """The state is re-initialised one step after the sample's first."""

    def starts(self, at: Moment) -> bool:
        return at[1] == 1


@_machine_fault
class NeverRestarts(Machine):
    """The state is initialised once, before the first sample."""

    def starts(self, at: Moment) -> bool:
        return False


@_machine_fault
class BankNotSwapped(Machine):
    """A windowed soma keeps mixing the currents of the first sample."""

    def mixed(self, soma: Soma, at: Moment) -> dict[Index, int]:
        return super().mixed(soma, (0, at[1]))
