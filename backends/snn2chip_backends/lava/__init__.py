"""Programs as real Lava processes: run them, emit them, connect them to other Lava processes.

Nothing here imports Lava or the compiler before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn2chip_backends.lava.backend import LavaBackend
    from snn2chip_backends.lava.emission import emit
    from snn2chip_backends.lava.live import LavaNetwork, to_lava

__all__ = ["LavaBackend", "LavaNetwork", "emit", "to_lava"]

_HOME = {"LavaBackend": "backend", "LavaNetwork": "live", "emit": "emission", "to_lava": "live"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
