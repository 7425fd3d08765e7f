"""What a training step costs: against SpikingJelly, snnTorch and Norse, and parallel neurons against serial ones.

The peers are no dependency. They are read from a folder of their own, SNN2CHIP_PEERS (default runs/peers), made by

    pip install --no-deps --target runs/peers spikingjelly==0.0.0.0.14 snntorch norse nir nirtorch

and run on the same PyTorch in processes of their own. A peer that is not there has no row.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from benchmarks.questions import Question
from benchmarks.table import Bar, Row, Table, measure
from snn2chip.nn import IF, ParallelNeuron
from snn2chip.nn.fused import plain_neurons

FAST = ("numba", "triton") if torch.cuda.is_available() else ("numba",)
PEERS = {"spikingjelly": "SpikingJelly, torch backend", "snntorch": "snnTorch", "norse": "Norse"}


@attrs.define(eq=False)
class Child:
    """A side of the comparison in its own process, asked line by line."""

    name: str
    process: subprocess.Popen[str]
    seconds: float = 0.0

    def ask(self, line: str = "") -> str:
        """Send one line and return the answer; RuntimeError when the process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if line:
            print(line, file=self.process.stdin, flush=True)
        for answer in self.process.stdout:
            if (word := answer.strip()) in ("ready", "saved") or word.replace(".", "", 1).replace("e-", "").isdigit():
                return word
        raise RuntimeError(f"{self.name} ended before it answered {line!r}")

    def step(self) -> None:
        """Take one step and keep the seconds that it says it took."""
        self.seconds = float(self.ask("step"))


@contextmanager
def child(name: str, **given: Any) -> Iterator[Child]:
    """Start one side, with the folder of the peers behind everything else."""
    paths = [str(Path.cwd()), os.environ.get("PYTHONPATH", ""), str(peers())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.training_child", json.dumps(given)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    try:
        made = Child(name, process)
        made.ask()
        yield made
    finally:
        process.kill()
        process.wait()


def peers() -> Path:
    """Folder of the peers' packages."""
    return Path(os.environ.get("SNN2CHIP_PEERS", "runs/peers")).resolve()


def sides(what: str, *, batch: int, device: str, precision: str) -> dict[str, dict[str, Any]]:
    """What is compared, by the row's name: ours, then every peer that is here in both orders of memory."""
    common = {"what": what, "batch": batch, "device": device, "precision": precision}
    common["threads"] = torch.get_num_threads()
    found: dict[str, dict[str, Any]] = {}
    for who, title in PEERS.items():
        if (peers() / who).is_dir():
            found[title] = {**common, "who": who, "memory": "contiguous"}
    if (peers() / "spikingjelly").is_dir():
        found[f"{PEERS['spikingjelly']}, channels last"] = {**common, "who": "spikingjelly", "memory": "channels_last"}
    if device == "cuda" and (peers() / "spikingjelly").is_dir() and find_spec("cupy") is not None:
        for memory in ("contiguous", "channels_last"):
            name = "SpikingJelly, cupy backend" + (", channels last" if memory == "channels_last" else "")
            found[name] = {**common, "who": "spikingjelly-cupy", "memory": memory}
    found["snn2chip, torch code"] = {**common, "who": "snn2chip-plain", "memory": "contiguous"}
    found["snn2chip"] = {**common, "who": "snn2chip", "memory": "contiguous"}
    found["snn2chip, channels last"] = {**common, "who": "snn2chip", "memory": "channels_last"}
    return found


def training(what: str, *, limit: float, precision: str = "32", quick: bool, repeats: int) -> Table:
    """Steps of one net, or of one neuron layer alone, side by side."""
    from contextlib import ExitStack

    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = (4 if quick else 32) * (8 if device == "cuda" else 1)
    chosen = sides(what, batch=batch, device=device, precision=precision)
    with ExitStack() as stack:
        children = {name: stack.enter_context(child(name, **given)) for name, given in chosen.items()}
        notes = agreement(children)
        rows = [
            Row(
                name=name,
                samples=batch,
                run=made.step,
                compared=False,
                clock=partial(getattr, made, "seconds"),
                peak=partial(first_step_megabytes, name, chosen[name]),
            )
            for name, made in children.items()
        ]
        kind = "VGG-11, CIFAR" if what == "net" else "the neurons alone, 64 x 32 x 32"
        head = f"Training step, LIF, {kind}, T = 4, B = {batch}, {precision}"
        table = measure(head, rows, repeats=repeats, packages=("numba", *PEERS))
    repeated = table.repeated.replace("once to compare, once to warm up", "a step to compare, two to warm up")
    table = attrs.evolve(table, asserted=AGREEMENT, repeated=repeated)
    table.notes.update(notes | {"device": device})
    rivals = [name for name in chosen if name.startswith("SpikingJelly")]
    if not rivals:
        table.notes["peers"] = f"none in {peers()}"
        return table
    best = max(rivals, key=lambda name: table[name].rate)
    ours = max(("snn2chip", "snn2chip, channels last"), key=lambda name: table[name].rate)
    value = table.slowdown(best, ours)
    name = f"training step vs SpikingJelly, faster order of each, {kind.partition(',')[0]}, {precision}"
    return table.with_bars(Bar(name=name, value=value, limit=limit, at_least=True))


AGREEMENT = (
    "in the first step from equal weights SpikingJelly (contiguous) and our torch code send the spikes of ours, "
    "and outputs and gradients agree within 1e-3 of the largest; of the others, whose equations or order of sums "
    "differ, the shares of equal spikes are noted, nothing is asserted"
)


def first_step_megabytes(name: str, given: dict[str, Any]) -> float:
    """Megabytes that the first step adds to a fresh process which has built its side."""
    with child(name, **given) as fresh:
        return float(fresh.ask("memory"))


def agreement(children: dict[str, Child]) -> dict[str, Any]:
    """Compare the first step of all sides: spikes, outputs and gradients. Raises AssertionError where they must agree.

    Ours by kernels and by torch operations, and SpikingJelly's, are one set of equations; the other peers' differ.
    """
    notes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for index, (name, made) in enumerate(children.items()):
            path = Path(folder) / f"{index}.npz"
            made.ask(f"save {path}")
            found[name] = dict(np.load(path))
    ours = found["snn2chip"]
    for name, theirs in found.items():
        spikes = [key for key in ours if key.startswith("spike")]
        share = float(np.mean([np.mean(ours[key] == theirs[key]) for key in spikes]))
        notes[f"equal spikes, {name}"] = share
        if name in ("snn2chip, torch code", PEERS["spikingjelly"]):
            assert share == 1.0, f"{name}: {1 - share:.2e} of the spikes differ"
            for key in ours:
                scale = np.abs(ours[key]).max() if ours[key].dtype != bool else 1
                worst = np.abs(ours[key].astype(float) - theirs[key].astype(float)).max()
                assert worst <= 1e-3 * max(scale, 1e-6), f"{name}: {key} differs by {worst:.2e} of {scale:.2e}"
    return notes


def parallel(*, quick: bool, repeats: int) -> Table:
    """One layer at T = 4 .. 64: parallel neurons against serial IF, by the torch code and by the kernels."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    neurons = (1 << 12 if quick else 1 << 16) * (16 if device == "cuda" else 1)
    rows: list[Row] = []
    for steps in (4, 16, 32, 64) if device == "cuda" else (4, 16, 64):
        torch.manual_seed(0)
        x = (0.3 * torch.rand(1, 1, neurons) + 0.1 * torch.rand(steps, 1, neurons)).to(device)
        serial = IF(steps=steps, v_init="half-theta").to(device)
        at_once = ParallelNeuron(steps=steps).to(device)
        for neuron in (serial, at_once):
            with torch.inference_mode(), plain_neurons():
                plainly = neuron(x)
            with torch.inference_mode():
                assert torch.equal(neuron(x), plainly), "kernels and torch code differ"
        counted = serial(x).count_nonzero(0)
        close = (at_once(x).count_nonzero(0) - counted).abs().max()
        assert int(close) <= 1, "parallel and serial neurons differ by more than the potential that is left"
        ways: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
            f"IF, torch code, T = {steps}": (serial, True),
            f"IF, T = {steps}": (serial, False),
            f"parallel, torch code, T = {steps}": (at_once, True),
            f"parallel, T = {steps}": (at_once, False),
        }
        for name, (neuron, plain) in ways.items():
            rows.append(Row(name=name, samples=neurons, run=partial(_infer, neuron, x, plain), compared=False))
    head, notes = f"Inference of {neurons} neurons, {device}", {"device": device, "one run": "ten passes"}
    table = measure(head, rows, repeats=repeats, notes=notes, packages=FAST)
    told = "spikes of parallel and serial neurons, added up over T, differ by at most 1 (what is left in a serial one's"
    asserted = f"{told} potential); kernels and torch code send the same spikes"
    return attrs.evolve(table, asserted=asserted)


def _infer(neuron: Callable[[Tensor], Tensor], x: Tensor, plain: bool) -> None:
    with torch.inference_mode(), plain_neurons(plain):
        for _ in range(10):
            neuron(x)
    if x.is_cuda:
        torch.cuda.synchronize()


QUESTIONS: dict[str, Question] = {
    "training-neuron": partial(training, "neuron", limit=2.0),
    "training": partial(training, "net", limit=1.1),
    "training-bf16": partial(training, "net", limit=1.1, precision="bf16"),
    "parallel": parallel,
}
