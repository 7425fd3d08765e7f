"""Checkpoints that others wrote, loaded into zoo models by tensor names and shapes; imported on first use.

    lm-ht         a torch file {"model": ..}; neurons with raw `alpha`, `mask`      activation = "lmht"
    qcfs          a threshold `thresh` (or `up`) per activation                     activation = "qcfs"
    torchvision   conv1, bn1, layer1.0.conv1, .., fc; features.0, .., classifier.0  activation = "relu"

    model, header = load_foreign("best.pth", model="vgg16", args={"L": 4}, layout="qcfs")
    save_checkpoint("best.safetensors", model, header)

A verb of the command line hands FILE, --model, its other arguments as `args` and --layout to `load_foreign`, then
writes the pair with `snn2chip.checkpoint.save_checkpoint`; every error is FileFormatError or InputError.

reading.py    file -> tensors            plan.py     zoo model -> its layers by role
layouts.py    marks, names of neurons    spelling.py role -> foreign module name, every known variant
match.py      tables, misfits            arguments.py  what the tensors say about the model's arguments
load.py       the whole way
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn2chip.foreign.layouts import LAYOUTS, detect_layout
    from snn2chip.foreign.load import load_foreign
    from snn2chip.foreign.reading import ForeignFile, read_foreign

_HOME = {
    "LAYOUTS": "layouts",
    "detect_layout": "layouts",
    "load_foreign": "load",
    "ForeignFile": "reading",
    "read_foreign": "reading",
}

__all__ = ["LAYOUTS", "ForeignFile", "detect_layout", "load_foreign", "read_foreign"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
