"""The user's float model on raw samples: its logits, and its own tensors for whoever runs it elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from torch import Tensor, nn


@attrs.frozen(kw_only=True, eq=False)
class FloatModel:
    """`model(raw)` gives logits `[n, classes]`; `prepare(raw)` is what `module` itself takes (several inputs: a tuple).

    A module that returns several tensors gives a tuple or dict of arrays.
    """

    module: nn.Module
    prepare: Callable[[Any], Tensor | tuple[Tensor, ...]]

    def __call__(self, raw: Any) -> Any:
        import torch

        from snn2chip.frontends.torch_checks import reset_neurons

        with self.resting() as module, torch.no_grad():
            reset_neurons(module)
            given = self.prepare(raw)
            returned = module(*given) if isinstance(given, tuple) else module(given)
        if isinstance(returned, Mapping):
            return {name: value.float().cpu().numpy() for name, value in returned.items()}
        if isinstance(returned, (tuple, list)):
            return tuple(value.float().cpu().numpy() for value in returned)
        return returned.float().cpu().numpy()

    @contextmanager
    def resting(self) -> Iterator[nn.Module]:
        """The module in evaluation, then in the modes it was in; its neurons forget before and after."""
        from snn2chip.frontends.torch_checks import reset_neurons

        modes = {part: part.training for part in self.module.modules()}
        self.module.eval()
        reset_neurons(self.module)
        try:
            yield self.module
        finally:
            reset_neurons(self.module)
            for part, mode in modes.items():
                part.training = mode

    @property
    def footprint(self) -> int:
        """Bytes of parameters and buffers, as NeuroBench counts them."""
        parts = [*self.module.parameters(), *self.module.buffers()]
        return sum(p.numel() * p.element_size() for p in parts)
