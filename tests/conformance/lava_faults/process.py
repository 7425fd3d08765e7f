"""Somas whose process model goes wrong in one way each, for the tests of the guarded run.

Alone in its folder, because Lava's compiler executes every .py file beside a process's module.
"""

from __future__ import annotations

import os
import signal
import time

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

AT_STEP = 4


class Silent(AbstractProcess):
    """Takes the arguments and has the ports of the own soma; sends 0."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        shape = kwargs["shape"]
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.v_out = OutPort(shape=shape)
        self.sat_out = OutPort(shape=(1,))


class AbstractSilentModel(PyLoihiProcessModel):
    """Sound; the models below override one of its parts."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int64)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    v_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    sat_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.shape = proc_params["shape"]

    def run_spk(self):
        due = self.time_step == AT_STEP
        if due:
            self.before_recv()
        self.a_in.recv()
        if due:
            self.after_recv()
        self.send(due)
        if due:
            self.after_send()

    def send(self, due):
        for port in (self.s_out, self.v_out, self.sat_out):
            port.send(np.zeros(port._shape, np.int32))

    def before_recv(self): ...

    def after_recv(self): ...

    def after_send(self): ...


class RaisesInInit(Silent): ...


class RaisesBeforeRecv(Silent): ...


class RaisesAfterRecv(Silent): ...


class RaisesAfterSend(Silent): ...


class SendsWrongShape(Silent): ...


class SendsNothing(Silent): ...


class Exits(Silent): ...


class ExitsInInit(Silent): ...


class IsKilled(Silent): ...


class Hangs(Silent): ...


class IgnoresSigterm(Silent): ...


@implements(proc=Silent, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SilentModel(AbstractSilentModel): ...


@implements(proc=RaisesInInit, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class RaisesInInitModel(AbstractSilentModel):
    def __init__(self, proc_params):
        raise ValueError("bad start")


@implements(proc=RaisesBeforeRecv, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class RaisesBeforeRecvModel(AbstractSilentModel):
    def before_recv(self):
        raise ValueError("bad before")


@implements(proc=RaisesAfterRecv, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class RaisesAfterRecvModel(AbstractSilentModel):
    def after_recv(self):
        raise ValueError("bad middle")


@implements(proc=RaisesAfterSend, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class RaisesAfterSendModel(AbstractSilentModel):
    def after_send(self):
        raise ValueError("bad end")


@implements(proc=SendsWrongShape, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SendsWrongShapeModel(AbstractSilentModel):
    def send(self, due):
        if due:
            self.s_out.send(np.zeros((3, 3), np.int32))
        AbstractSilentModel.send(self, due)


@implements(proc=SendsNothing, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SendsNothingModel(AbstractSilentModel):
    def send(self, due):
        if not due:
            AbstractSilentModel.send(self, due)


@implements(proc=Exits, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ExitsModel(AbstractSilentModel):
    def after_recv(self):
        os._exit(3)


@implements(proc=ExitsInInit, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ExitsInInitModel(AbstractSilentModel):
    def __init__(self, proc_params):
        os._exit(4)


@implements(proc=IsKilled, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class IsKilledModel(AbstractSilentModel):
    def after_recv(self):
        os.kill(os.getpid(), signal.SIGKILL)


@implements(proc=Hangs, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class HangsModel(AbstractSilentModel):
    def after_recv(self):
        while True:
            time.sleep(0.01)


@implements(proc=IgnoresSigterm, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class IgnoresSigtermModel(AbstractSilentModel):
    def after_recv(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(0.01)
