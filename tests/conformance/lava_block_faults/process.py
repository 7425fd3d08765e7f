"""Blocks of the layouts `layer` and `fused` whose process model goes wrong in one way each.

Each name is a function that makes the process class for the ports it is given, as `ported` does for sound blocks.
"""

from __future__ import annotations

import os
import signal
import time

from snn2chip_backends.lava.net.processes.block.process import KINDS, Block, BlockModel, ported

AT_STEP = 2


class FaultyModel(BlockModel):
    def run_spk(self):
        if self.time_step == AT_STEP:
            self.misbehave()
        BlockModel.run_spk(self)


class BreaksInsideModel(FaultyModel):
    """The arithmetic of the soma itself raises."""

    def misbehave(self):
        self.machine.somas[0].population.v = None


class SendsNothingModel(FaultyModel):
    def run_spk(self):
        if self.time_step == AT_STEP:
            for i, name in enumerate(self.in_names):
                if self.machine.awaits(self.time_step - 1, i):
                    getattr(self, name).recv()
        else:
            BlockModel.run_spk(self)


class ExitsModel(FaultyModel):
    def misbehave(self):
        os._exit(3)


class IsKilledModel(FaultyModel):
    def misbehave(self):
        os.kill(os.getpid(), signal.SIGKILL)


class HangsModel(FaultyModel):
    def misbehave(self):
        while True:
            time.sleep(0.01)


def faulty(model):
    name = model.__name__.removesuffix("Model")
    process = type(Block)(name, (Block,), {"__module__": __name__})

    def make(args):
        KINDS[name] = (process, model)
        return ported(name, args)

    return make


BreaksInside = faulty(BreaksInsideModel)
SendsNothing = faulty(SendsNothingModel)
Exits = faulty(ExitsModel)
IsKilled = faulty(IsKilledModel)
Hangs = faulty(HangsModel)
