"""When memory runs out: the same samples in halves, with the same results."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Mapping

import attrs
import torch

from snn2chip.errors import BackendFailure, MachineWarning
from snn2chip.ir.types import IntArray
from snn2chip.trace import Trace, join_traces
from snn2chip_backends.torch.device import out_of_memory

Once = Callable[[Mapping[str, IntArray]], Trace]


@attrs.define
class AtOnce:
    """How many samples fit `device`: `most` once memory has run out, else as many as are given."""

    device: torch.device
    most: int | None = None

    def run(self, once: Once, inputs: Mapping[str, IntArray]) -> Trace:
        """What `once(inputs)` gives, of halves of the samples `[T, B, ...]` joined where all at once do not fit.

        Warns (MachineWarning) of the number that does. Raises BackendFailure where one sample does not.
        """
        batch = next(iter(inputs.values())).shape[1]
        parts: list[Trace] = []
        done, failed = 0, 0
        while done < batch or not parts:
            n = min(self.most or batch, batch - done)
            if not self._fits(once, inputs, done, n, parts):
                if n == 1:
                    raise BackendFailure(
                        f"{self.device} ran out of memory with a single sample; record='outputs' takes less"
                    )
                failed, self.most = failed or n, -(-n // 2)
                _let_go(self.device)
                continue
            done += n
            if failed:
                _tell(self.device, failed, n)
                failed = 0
        return parts[0] if len(parts) == 1 else join_traces(parts)

    def _fits(self, once: Once, inputs: Mapping[str, IntArray], start: int, n: int, parts: list[Trace]) -> bool:
        """Add the trace of `n` samples to `parts`; False where they did not fit (nothing holds on to them then)."""
        whole = start == 0 and all(x.shape[1] == n for x in inputs.values())
        try:
            parts.append(once(inputs if whole else {name: x[:, start : start + n] for name, x in inputs.items()}))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return False
        return True


def _let_go(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda" and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _tell(device: torch.device, failed: int, fits: int) -> None:
    text = f"{device} ran out of memory with {failed} samples at a time; it goes on with {fits}, results are the same"
    warnings.warn(MachineWarning(text, key=f"{device}:memory"), stacklevel=6)
