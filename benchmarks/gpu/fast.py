"""Speed on one GPU, equality first: the exact engine, training steps and parallel neurons against their rivals.

    engine    ResNet-18 (CIFAR), B = 256, T = 4: integers against the float net of the same layers on B*T images
    step      a training step of VGG-11, LIF, T = 4, against SpikingJelly with each backend that is there
    neurons   parallel neurons against serial IF neurons, inference, T = 4 .. 64

Float nets run with channels last and `inference_mode`, their images on the device; so are the engine's payloads in the
row that has a bar. Its outputs and all counts come back to the host inside the time that is measured. Quick forms are
tiny and run on the CPU too, where they show that everything runs and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu.slices import Bench
from benchmarks.methods.result import Result
from benchmarks.methods.rows import at_least
from benchmarks.table import Outputs, Row, Table, measure

REPEATS = 7


def result(row: str, table: Table, bars: list[tuple[str, float, float]]) -> Result:
    """A table as a row's result; every bar is a name, what was measured and the least it must be."""
    figures = [
        {"net": r.name, "ms": round(1e3 * r.seconds, 3), f"x {table.baseline}": round(r.ratio, 2)} for r in table.rows
    ]
    notes = [f"{key}: {value}" for key, value in table.notes.items()]
    made = [at_least(name, value, limit, unit="times", digits=2) for name, value, limit in bars]
    return Result(row=row, title=table.title, bars=made, figures=figures, notes=notes)


def synchronized(work: Callable[[], Any], device: str) -> Callable[[], Any]:
    """The work, waited for."""

    def done() -> Any:
        found = work()
        if device == "cuda":
            torch.cuda.synchronize()
        return found

    return done


def engine(bench: Bench) -> Result:
    """The exact engine against the float net in bfloat16 and TF32."""
    from snn2chip_backends.torch import TorchBackend
    from snn2chip_backends.torch.engine import put_inputs
    from snn2chip_backends.torch.exact import exact_arithmetic

    from benchmarks.networks import pixels
    from snn2chip.api import coded_inputs, run

    program, net, batch = _nets(bench.quick)
    device = torch.device(bench.device)
    backend, x = TorchBackend(device), pixels(program, batch)
    coded = coded_inputs(program, x)
    assert np.array_equal(
        run(program, x[:1], backend="reference").outputs, run(program, x[:1], device=bench.device).outputs
    )
    plan = backend.plan(program)
    placed = put_inputs(program, plan, coded, device)

    def from_device() -> Outputs:
        with exact_arithmetic(device):
            return backend.run_placed(program, plan, dict(placed), record="outputs").outputs

    rows = [_float(net, program.steps * batch, bench.device, kind) for kind in ("bfloat16", "TF32", "float32")]
    rows += [
        Row(name="exact engine", samples=batch, run=synchronized(from_device, bench.device)),
        Row(
            name="exact engine, coded samples in",
            samples=batch,
            run=lambda: backend.run(program, coded, record="outputs").outputs,
        ),
    ]
    table = measure(f"ResNet-18, B = {batch}, T = {program.steps}", rows, repeats=1 if bench.quick else REPEATS)
    table.notes["arithmetic"] = _arithmetic(program, device)
    ratio = partial(table.slowdown, other="exact engine")
    bars = [("engine vs bfloat16 forward", ratio("bfloat16"), 1.0), ("engine vs TF32 forward", ratio("TF32"), 2.0)]
    return result("engine", table, bars)


def _nets(quick: bool) -> tuple[Any, nn.Module, int]:
    """The program, the float net of the same layers, samples."""
    from snn2chip_models import build

    from benchmarks.networks import conv_net, converted

    if quick:
        layers = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, 2, 1), nn.ReLU()]
        return conv_net(steps=2), nn.Sequential(*layers).eval(), 2
    return converted("resnet18", steps=4), build("resnet18", activation="relu", bn=False).eval(), 256


def _float(net: nn.Module, images: int, device: str, kind: str) -> Row:
    """One forward of `images` images per `images` / T samples, in one type."""
    from copy import deepcopy

    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    own = deepcopy(net).to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(images, 3, 32, 32).to(device, dtype).contiguous(memory_format=torch.channels_last)

    def forward() -> Tensor:
        torch.set_float32_matmul_precision("high" if kind == "TF32" else "highest")
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=kind == "TF32"),
        ):
            return own(x)

    steps = 2 if images < 100 else 4
    return Row(name=kind, samples=images // steps, run=synchronized(forward, device), compared=False)


def _arithmetic(program: Any, device: torch.device) -> str:
    from snn2chip_backends.torch.tensor_cores import sound_units

    from snn2chip.triton_here import why_no_triton

    return why_no_triton(device) or "Triton; units " + ", ".join(unit.name for unit in sound_units(device))


def step(bench: Bench) -> Result:
    """A training step against SpikingJelly's fastest backend, in float32 and bfloat16."""
    from benchmarks.training import training

    tables = [
        training("net", limit=1.3, precision=kind, quick=bench.quick, repeats=1 if bench.quick else REPEATS)
        for kind in ("32", "bf16")
    ]
    bars = [(bar.name, bar.value, bar.limit) for table in tables for bar in table.bars]
    first, second = (result("step", table, []) for table in tables)
    figures = [{**line, "precision": kind} for kind, part in (("32", first), ("bf16", second)) for line in part.figures]
    made = [at_least(name, value, limit, unit="times", digits=2) for name, value, limit in bars]
    title, notes = "Training step, LIF, VGG-11, T = 4", [*first.notes, *second.notes]
    return Result(row="step", title=title, bars=made, figures=figures, notes=notes)


def neurons(bench: Bench) -> Result:
    """Parallel neurons against serial ones: by the torch code, as the paper has it, and by our kernels."""
    from benchmarks.training import parallel

    table = parallel(quick=bench.quick, repeats=1 if bench.quick else REPEATS)
    bars = []
    measured = {row.name for row in table.rows}
    for steps in (32, 64):
        if f"parallel, T = {steps}" not in measured:  # a quick form on the CPU has fewer lengths
            continue
        value = table.slowdown(f"IF, torch code, T = {steps}", f"parallel, T = {steps}")
        bars.append((f"parallel neurons vs serial IF, T = {steps}", value, 19.0))
    return result("neurons", table, bars)


FAST: dict[str, Callable[[Bench], Result]] = {"engine": engine, "step": step, "neurons": neurons}
