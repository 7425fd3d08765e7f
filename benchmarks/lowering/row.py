"""One row: a method on a net, compiled, run on every backend and compared; measured in a process of its own."""

from __future__ import annotations

import json
import resource
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.lowering.nets import METHODS, NETS, NetSize, Subject, images
from snn2chip.ir.files import write_text
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.program import Program

RATES, BITS = (0.02, 0.40), 2.0
"""What random weights must reach to count: firing rate of every layer, entropy of the answers in bits."""
Value = TypeVar("Value")


@attrs.frozen(kw_only=True)
class Row:
    """A measured row; `left_out` says why a random net does not count, `error` why there is nothing else."""

    method: str
    net: str
    source: str = ""
    options: str = ""
    float_top1: float = 0.0
    integer_top1: float = 0.0
    agreement: float = 0.0
    forced: float = -1.0  # smallest share over the layers; -1: not measured
    images: int = 0
    rates: tuple[float, float] = (0.0, 0.0)
    entropy: float = 0.0
    bits: str = ""
    products: int = 0
    weights: int = 0
    equal: Mapping[str, Any] = attrs.field(factory=dict)
    control: Mapping[str, bool] = attrs.field(factory=dict)
    lava: str = ""
    compile_seconds: float = 0.0
    compile_cpu: float = 0.0
    extra_mb: float = -1.0  # -1: not measured
    peak_mb: float = 0.0
    file_bytes: int = 0
    seconds: Mapping[str, float] = attrs.field(factory=dict)
    left_out: str = ""
    error: str = ""

    @property
    def complete(self) -> bool:
        """Whether every cell is there and the row counts."""
        return not self.error and not self.left_out and self.forced >= 0 and self.extra_mb >= 0


def write(row: Row, path: Path) -> None:
    """Write a row as JSON, beside its target first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(attrs.asdict(row), indent=1) + "\n")


def read(path: Path) -> Row | None:
    """Return the row of a file, or None without one."""
    return Row(**json.loads(path.read_text())) if path.is_file() else None


class Memory:
    """Resident megabytes of this process at the start of a block, and the most above them (Linux)."""

    def __enter__(self) -> Memory:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        self.start = _status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.extra = _status("VmHWM") - self.start


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":")) / 1024


def timed(run: Callable[[], Value]) -> tuple[Value, float]:
    """Return a result and the wall-clock seconds that it took."""
    start = time.perf_counter()
    return run(), round(time.perf_counter() - start, 2)


def measure(method: str, name: str, *, quick: bool = False) -> Row:
    """Measure one row; what compilation or a backend refuses is its `error`."""
    from snn2chip.compiler import compile_graph
    from snn2chip.errors import Snn2ChipError

    torch.set_num_threads(1)
    net = NETS[name]
    if quick:
        net = attrs.evolve(net, images=16, calibrated=min(16, net.calibrated), ranges=min(16, net.ranges))
    warm()
    try:
        subject = METHODS[method](net)
        raw, _ = images("train", net.ranges, side=net.side, data=subject.data)
        cpu = time.process_time()
        with Memory() as memory:
            (program, graph), seconds = timed(
                lambda: compile_graph(subject.model, subject.sample, calibration=raw, normalise=subject.normalise)
            )
        cpu = time.process_time() - cpu
        row = Row(method=method, net=name, source=subject.source, options=subject.options)
        row = attrs.evolve(row, **_answers(program, graph, net, subject))
        row = attrs.evolve(row, **_equality(program, net, subject))
    except Snn2ChipError as error:
        return Row(method=method, net=name, error=f"{type(error).__name__}: {error}")
    return attrs.evolve(
        row,
        bits=_bits(program),
        products=_products(program),
        weights=sum(s.stored.size for s in program.synapses),
        compile_seconds=seconds,
        compile_cpu=round(cpu, 2),
        extra_mb=round(memory.extra, 1),
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        file_bytes=_file_bytes(program),
    )


def warm() -> None:
    """Load what every compilation loads, so that its time and memory are those of the net."""
    from snn2chip_models import build

    from snn2chip.compiler import compile as compile_module

    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    compile_module(build("digits-cnn", T=2, channels=[2, 2, 2]).eval(), x)


def _answers(program: Program, graph: Any, net: NetSize, subject: Subject) -> dict[str, Any]:
    """Top-1 of both sides, firing rates of the integer layers, entropy of the integer answers."""
    from snn2chip.api import run

    x, labels = images("test", net.images, side=net.side, data=subject.data)
    trace = run(program, x, backend="torch", record="outputs")
    step = max(1, 4 * 1024 // net.side**2 * 8)
    floats = np.concatenate(
        [graph.run(torch.as_tensor(x[i : i + step])).output.argmax(-1).numpy() for i in range(0, len(x), step)]
    )
    counted = [s.name for s in program.somas if s.fire not in ("none", "relay")]
    rates = [trace.counts.sources[n]["spikes"] / trace.counts.sources[n]["neuron_updates"] for n in counted]
    share = np.bincount(trace.pred, minlength=10) / len(x)
    entropy = float(-(share[share > 0] * np.log2(share[share > 0])).sum())
    reasons = []
    if subject.random and not (RATES[0] <= min(rates) and max(rates) <= RATES[1]):
        reasons.append(f"firing rates {min(rates):.1%} to {max(rates):.1%}")
    if subject.random and entropy < BITS:
        reasons.append(f"{entropy:.2f} bits of entropy")
    return {
        "float_top1": 100 * float((floats == labels).mean()),
        "integer_top1": 100 * float((trace.pred == labels).mean()),
        "forced": _forced(program, graph, x[: net.checked]),
        "agreement": 100 * float((trace.pred == floats).mean()),
        "images": len(x),
        "rates": (min(rates), max(rates)),
        "entropy": entropy,
        "left_out": ", ".join(reasons),
    }


def _forced(program: Program, graph: Any, x: NDArray[Any]) -> float:
    """Percent of the payloads of the worst layer that are the float network's when it is fed the float payloads.

    Real payloads (EM-PF) are compared as the codes in which they are sent.
    """
    from snn2chip.checks.fidelity import fidelity

    spiking = {soma.name for soma in program.somas if soma.fire != "relay"}  # relays send rounded currents
    shares = [
        layer.forced_equal for layer in fidelity(program, graph, x, same_payloads=True).layers if layer.soma in spiking
    ]
    return 100 * min(share for share in shares if share is not None)


def _equality(program: Program, net: NetSize, subject: Subject) -> dict[str, Any]:
    """All payloads of all somas at all steps on every backend, and of the program with one weight array shuffled."""
    from snn2chip_backends.lava import LavaBackend

    from snn2chip.api import run
    from snn2chip.checks.compare import compare_pair

    x, _ = images("test", net.checked, side=net.side, data=subject.data)
    reference, seconds = timed(lambda: run(program, x, backend="reference"))
    spent = {"reference": seconds}
    equal: dict[str, Any] = {"samples": net.checked}
    lava = LavaBackend(stock=net.stock, timeout=1800)
    for name, backend in (("torch", "torch"), ("lava", lava)):
        trace, spent[name] = timed(lambda backend=backend: run(program, x, backend=backend))  # type: ignore[misc]
        compared, first = compare_pair(program, reference, trace)
        equal[name] = first is None
        equal["compared"] = compared
        if first is not None:
            equal["first"] = str(first)
    wrong = shuffled(program)
    trace, _ = timed(lambda: run(wrong, x, backend="torch"))
    kinds = Counter(choice.kind for choice in lava.layout(program).values())
    return {
        "equal": equal,
        "control": {"torch": compare_pair(program, reference, trace)[1] is None},
        "lava": ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
        "seconds": spent,
    }


def shuffled(program: Program) -> Program:
    """The program with the weights of its middle linear map in another order."""
    maps = [s for s in program.synapses if s.kind in ("conv2d", "linear")]
    chosen = maps[len(maps) // 2]
    weight: NDArray[np.int64] = np.random.default_rng(0).permutation(chosen.weight.ravel())
    other = attrs.evolve(chosen, weight=weight.reshape(chosen.weight.shape))
    nodes = [other if node is chosen else node for node in program.nodes]
    return attrs.evolve(program, nodes=nodes)


def _bits(program: Program) -> str:
    """Weight widths by how many weights have them, and the widest payload."""
    sizes: Counter[str] = Counter()
    for s in program.synapses:
        if s.kind in ("conv2d", "linear"):
            sizes[str(s.bits)] += s.stored.size
    payload = max(s.payload_type().hi.bit_length() for s in program.somas if s.fire not in ("none", "relay"))
    return "/".join(width for width, _ in sizes.most_common()) + f", payload {payload}"


def _products(program: Program) -> int:
    """Dense products of one step."""
    total = 0
    for s in program.synapses:
        if isinstance(s, Synapse) and s.kind in ("conv2d", "linear"):
            pixels = int(np.prod(program.shapes[s.name][1:])) if s.kind == "conv2d" else 1
            total += s.stored.size * pixels
    return total


def _file_bytes(program: Program) -> int:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.s2c"
        program.save(path)
        return path.stat().st_size
