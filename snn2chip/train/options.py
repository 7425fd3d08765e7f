"""How a run is carried out: machine, processes, logs, resuming. None of it belongs to the recipe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from snn2chip.errors import EnvironmentFault, InputError

DEVICES = ("cpu", "cuda")
LOGGERS = ("csv", "tensorboard")


@attrs.frozen(kw_only=True)
class RunOptions:
    """Options of one run; `progress` None shows a bar on a terminal only.

    device: cpu or cuda; devices, nodes, strategy: as Lightning's Trainer has them, "auto" strategy by default.
    workers: processes that make batches, 0 makes them in this one; the result is the same.
    logs: folder for logs; logger: csv or tensorboard.
    resume: go on from the resume file when there is one; save_minutes, save_steps: also save inside epochs.
    InputError lists every option that is not allowed.
    """

    device: str = "cpu"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    workers: int = 0
    progress: bool | None = None
    logs: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    logger: str = "csv"
    resume: bool = True
    save_minutes: float | None = None
    save_steps: int | None = None

    def __attrs_post_init__(self) -> None:
        if breaches := list(self._breaches()):
            raise InputError(breaches)

    def _breaches(self) -> Iterator[str]:
        for key, known in (("device", DEVICES), ("logger", LOGGERS)):
            if getattr(self, key) not in known:
                yield f"{key} {getattr(self, key)!r} is unknown; known: {', '.join(known)}"
        for key, low in (("devices", 1), ("nodes", 1), ("workers", 0)):
            if getattr(self, key) < low:
                yield f"{key}={getattr(self, key)}, expected at least {low}"
        for key in ("save_minutes", "save_steps"):
            if (value := getattr(self, key)) is not None and value <= 0:
                yield f"{key}={value}, expected a number above 0"

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.devices * self.nodes


def check_device(options: RunOptions, *, precision: str = "32") -> None:
    """Raise EnvironmentFault for a device that is not here, InputError for a precision it does not have."""
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise EnvironmentFault("device 'cuda' was asked for, but PyTorch sees no CUDA device; use --device cpu")
    if options.device == "cuda" and torch.cuda.device_count() < options.devices and "LOCAL_RANK" not in os.environ:
        raise EnvironmentFault(f"{options.devices} devices were asked for, PyTorch sees {torch.cuda.device_count()}")
    if precision == "16-mixed" and options.device == "cpu":
        raise InputError("precision '16-mixed' needs --device cuda; on the CPU use 32 or bf16-mixed")
