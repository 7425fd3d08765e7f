"""What the float model costs where it runs: measured seconds, operations counted while it ran, modelled energy.

    board   E = board_power * seconds per sample      an upper end: full power all the time; no other work counted out
    MACs    E = MACs * mac                            arithmetic alone, MACs as PyTorch counts what really runs

Seconds are measured here and now, with what else this machine does; batch 1 answers soonest, a full batch does most.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from snn2chip.mapping.fact import Fact
from snn2chip.mapping.target import Model
from snn2chip.reports.energy import Estimate, Factor, Range, estimate, spread

if TYPE_CHECKING:
    from torch import nn

    from snn2chip.checks.float_model import FloatModel

BATCH = 64
"""Largest batch that is timed."""
LEAST, FEW, MOST = 5, 3, 50
"""Timed runs of one batch: at least, of a batch that takes longer than `SECONDS`, at most."""
SECONDS = 1.0
"""Time after which no further run is started."""
NETWORK = "float model as it runs"
SOURCES = {
    "NV": "NVIDIA H100, H200 and Orin data sheets",
    "user": "stated by the user (--board-power)",
    "torch": "torch.utils.flop_counter: multiplications of convolutions and matrix products, two operations each",
}
BOARDS: Mapping[str, Fact] = {
    "H100": Fact(700.0, "W", "NV", "S*", note="SXM module"),
    "H200": Fact(700.0, "W", "NV", "S*", note="SXM module"),
    "AGX Orin": Fact(60.0, "W", "NV", "S*"),
    "Orin Nano": Fact(25.0, "W", "NV", "S*"),
}
"""Full power of boards, by a part of the name that CUDA gives them."""
OTHERS = ("PCIe", "NVL", "GH200", "MIG")
"""Boards of the same chips with another power, and parts of a board."""


@attrs.frozen(kw_only=True)
class BatchTime:
    """Seconds per sample of `repeats` runs of a batch: median, and where the middle half of them lies."""

    batch: int
    repeats: int
    sample: Range


@attrs.frozen(kw_only=True)
class FloatCost:
    """One sample on the float side. `threads` of a CPU; `power`: of the board, if anybody knows it."""

    device: str
    name: str
    threads: int | None
    dtype: str
    times: tuple[BatchTime, ...]
    macs: float
    parameters: int
    footprint: int
    power: Mapping[str, Any] | None
    energies: tuple[Estimate, ...]
    sources: Mapping[str, str]

    @property
    def where(self) -> str:
        """Device in words."""
        many = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.device}: {self.name}{many}"


def float_cost(
    model: FloatModel,
    raw: Any,
    *,
    arithmetic: Iterable[Model] = (),
    time_axis: bool = False,
    device: str | None = None,
    board_power: float | None = None,
) -> FloatCost:
    """Measure `model` on raw samples `[N, ...]` (`[T, N, ...]` with `time_axis`) on CUDA if there is one, else the CPU.

    `arithmetic`: energy models of operations; `board_power` in W, for a board that is not known. The module is left
    where it was.
    """
    import torch

    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    samples = np.asarray(raw.detach().cpu().numpy() if hasattr(raw, "detach") else raw)
    total = samples.shape[1 if time_axis else 0]
    home = next((p.device for p in model.module.parameters()), torch.device("cpu"))
    sizes = sorted({1, min(BATCH, total)})
    first = next((p.dtype for p in model.module.parameters()), torch.float32)
    with model.resting() as module, torch.no_grad():
        try:
            module.to(chosen)
            cut = {n: samples[:, :n] if time_axis else samples[:n] for n in sizes}
            parts = {n: _moved(model.prepare(x), chosen) for n, x in cut.items()}
            macs = _macs(module, parts[1])
            times = tuple(_timed(module, parts[n], n) for n in sizes)
        finally:
            module.to(home)
    name = torch.cuda.get_device_name(chosen) if chosen.startswith("cuda") else _processor()
    power = _power(name, board_power)
    return FloatCost(
        device=chosen,
        name=name,
        threads=None if chosen.startswith("cuda") else torch.get_num_threads(),
        dtype=str(first).removeprefix("torch."),
        times=times,
        macs=macs,
        parameters=sum(p.numel() for p in model.module.parameters()),
        footprint=model.footprint,
        power=None if power is None else power.plain(),
        energies=(*_board(power, times), *_operations(arithmetic, macs)),
        sources=SOURCES,
    )


def _moved(given: Any, device: str) -> tuple[Any, ...]:
    """What the module takes, on the device."""
    return tuple(x.to(device) for x in (given if isinstance(given, tuple) else (given,)))


def _timed(module: nn.Module, x: tuple[Any, ...], batch: int) -> BatchTime:
    """Run until `SECONDS` are over, after one run that is not counted."""
    found: list[float] = []
    least = LEAST if _run(module, x) < SECONDS else FEW
    began = time.perf_counter()
    while len(found) < least or (len(found) < MOST and time.perf_counter() - began < SECONDS):
        found.append(_run(module, x) / batch)
    low, middle, high = statistics.quantiles(found, n=4)
    return BatchTime(batch=batch, repeats=len(found), sample=Range(value=middle, lo=low, hi=high))


def _run(module: nn.Module, x: tuple[Any, ...]) -> float:
    """Seconds of one call; neurons forget before it, outside of the time."""
    import torch

    from snn2chip.frontends.torch_checks import reset_neurons

    reset_neurons(module)
    done: Callable[[], None] = torch.cuda.synchronize if x[0].is_cuda else lambda: None
    done()
    start = time.perf_counter()
    module(*x)
    done()
    return time.perf_counter() - start


def _macs(module: nn.Module, x: tuple[Any, ...]) -> float:
    """Multiplications of one sample, counted while the model runs."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        _run(module, x)
    return float(counter.get_total_flops()) / 2


def _power(name: str, stated: float | None) -> Fact | None:
    if stated is not None:
        return Fact(float(stated), "W", "user", "E", note="power of the board while it runs")
    if any(word.lower() in name.lower() for word in OTHERS):
        return None
    return next((fact for key, fact in BOARDS.items() if key.lower() in name.lower()), None)


def _board(power: Fact | None, times: tuple[BatchTime, ...]) -> list[Estimate]:
    if power is None:
        return []
    rows = []
    for t in times:
        watts = spread(power)
        joules = Range(value=watts.value * t.sample.value, lo=watts.lo * t.sample.lo, hi=watts.hi * t.sample.hi)
        rows.append(
            Estimate(
                model=f"board, batch {t.batch}",
                title="power of the board for the measured time",
                network=NETWORK,
                scope="total",
                status="modelled",
                formula="E = board_power * seconds per sample",
                caveat="full power all the time: an upper end; the host is not in it",
                confidence=power.confidence,
                factors=(Factor(event="board_power", count=t.sample.value, each=power.plain(), joules=joules),),
                joules=joules,
            )
        )
    return rows


def _operations(models: Iterable[Model], macs: float) -> list[Estimate]:
    found = []
    for model in models:
        for event in ("mac", "mac_fp16"):
            if event in model.events:
                formula = f"E = MACs * {event}"
                found.append(estimate(model, {event: macs}, network=NETWORK, formula=formula))
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
