"""A program as live Lava processes in this Python process, to be connected to other Lava processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from snn2chip.errors import BackendUnavailable, EnvironmentFault
from snn2chip.ir.program import Program
from snn2chip.schedule import Schedule
from snn2chip_backends.lava.backend import LavaBackend
from snn2chip_backends.lava.layout import Choice
from snn2chip_backends.lava.limits import CHANNEL_SIZE
from snn2chip_backends.lava.plan import make_plan


@attrs.frozen(kw_only=True)
class LavaNetwork:
    """Live Lava processes of a program.

    `processes` by node name; `inputs[name]` an InPort that takes the payload of logical step t of sample n at
    machine step `(n*T + t)*stretch`; `outputs[name]` an OutPort with the payload, or for a potential the potential
    after reset, of the output's soma. Lava's `time_step` is the machine step + 1. `timing` has skews and latency.
    """

    program: Program
    processes: Mapping[str, Any]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    timing: Schedule
    layout: Mapping[str, Choice]

    def machine_steps(self, samples: int) -> int:
        """Machine steps from the first input of `samples` samples to their last result."""
        return self.timing.machine_steps(samples)

    def output_steps(self, output: str, sample: int) -> list[int]:
        """Machine steps at which `outputs[output]` carries the logical steps 0..T-1 of one sample."""
        first = self.timing.skew_out[self.program.into[output][0].src] + sample * self.timing.sample_steps
        return [first + t * self.timing.stretch for t in range(self.timing.steps)]

    def run_config(self) -> Any:
        """The Lava run configuration that everything here is made for."""
        from lava.magma.core.run_configs import Loihi2SimCfg

        return Loihi2SimCfg(select_tag="fixed_pt")

    def run(self, samples: int = 1) -> None:
        """Run this and everything connected to it until the results of `samples` samples are out; then `stop`."""
        from lava.magma.core.run_conditions import RunSteps

        first = next(iter(self.processes.values()))
        first.run(
            condition=RunSteps(num_steps=self.machine_steps(samples)),
            run_cfg=self.run_config(),
            compile_config={"pypy_channel_size": CHANNEL_SIZE},
        )

    def stop(self) -> None:
        """End the Lava runtime; without it Python does not exit."""
        next(iter(self.processes.values())).stop()


def to_lava(program: Program, *, stock: bool | str = True) -> LavaNetwork:
    """Make live Lava processes of `program`; samples may follow each other without end.

    Raises BackendUnavailable without lava-nc, EnvironmentFault if Lava cannot be imported any more.
    """
    reason = LavaBackend().missing()
    if reason is not None:
        raise BackendUnavailable(f"backend 'lava' is not available: {reason}")
    plan = make_plan(program, stock=stock, ends="open")
    try:
        import lava.magma.core.process.process  # noqa: F401
    except RuntimeError as error:
        raise EnvironmentFault(
            "Lava must be imported before anything else chooses how multiprocessing starts processes; "
            "put `import lava.magma.core.process.process` at the top of your program"
        ) from error
    from snn2chip_backends.lava.net.assemble import assemble

    made = assemble(plan.data, plan.arrays)
    outputs = {}
    for output in program.outputs:
        soma = made[program.into[output.name][0].src]
        outputs[output.name] = soma.v_out if output.read == "potential" else soma.s_out
    return LavaNetwork(
        program=program,
        processes=made,
        inputs={node.name: made[node.name].s_in for node in program.inputs},
        outputs=outputs,
        timing=plan.timing,
        layout=plan.layout,
    )
