"""Jobs that misbehave on purpose, around real ones; imported by workers under its own name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import attrs

from snn2chip.errors import InputError
from snn2chip.shards.plan import Shard


@attrs.frozen
class Sums:
    """Which samples a shard had, and their sum."""

    total: int = 150
    grain = 1
    per_worker = 4
    most = 512
    floats = False
    fields = ("samples", "sum")

    def identity(self) -> dict[str, Any]:
        return {"sums": self.total}

    def run(self, shard: Shard) -> Any:
        samples = list(range(shard.start, shard.stop))
        return {"samples": samples, "sum": sum(samples)}


@attrs.frozen
class Around:
    """Another job, with a fault: `kill` a worker in shard `at` (the first `times` of them), `fail` or end in reverse.

    Every shard that ran leaves a line in `log`.
    """

    job: Any
    fault: str
    log: str
    at: int = 0
    times: int = 1

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "job":
            raise AttributeError(name)
        return getattr(self.job, name)

    def run(self, shard: Shard) -> Any:
        with Path(self.log).open("a") as stream:
            stream.write(f"{shard.index}\n")
        if self.fault == "kill" and shard.index == self.at and self.ran(shard.index) <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "fail" and shard.index >= self.at:
            raise InputError(f"shard {shard.index} is wrong")
        if self.fault == "interrupt" and shard.index == self.at:
            raise KeyboardInterrupt
        if self.fault == "reverse":
            time.sleep(0.6 if shard.index % 2 == 0 else 0.0)
        return self.job.run(shard)

    def ran(self, index: int | None = None) -> int:
        """How often a shard, or any, has begun."""
        lines = Path(self.log).read_text().split() if Path(self.log).exists() else []
        return len(lines) if index is None else lines.count(str(index))
