"""lava-dl's slayer blocks as integer programs: written with their own `export_hdf5`, read by our NetX importer."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import h5py

from snn2chip.errors import TraceError
from snn2chip.ir.program import Program


def slayer_program(model: Any, *, steps: int | None = None) -> Program:
    """The program of a module of slayer blocks (`model.blocks`, or an nn.Sequential of them).

    Raises TraceError where lava-dl cannot export it, and what `import_netx` raises.
    """
    from snn2chip.frontends.netx import import_netx

    net = copy.deepcopy(model).eval().cpu()
    blocks = list(getattr(net, "blocks", None) or net.children())
    strange = [type(b).__name__ for b in blocks if not callable(getattr(b, "export_hdf5", None))]
    if strange or not blocks:
        raise TraceError(f"lava: {', '.join(strange) or 'no blocks'}: expected slayer blocks alone, in model.blocks")
    with tempfile.TemporaryDirectory(prefix="snn2chip-slayer-") as folder:
        path = Path(folder) / f"{type(model).__name__}.net"
        try:
            with h5py.File(path, "w") as file:
                layers = file.create_group("layer")
                for i, block in enumerate(blocks):
                    block.export_hdf5(layers.create_group(f"{i}"))
        except Exception as error:  # anything of theirs: the message says whose it is
            raise TraceError(f"lava cannot export the model: {type(error).__name__}: {error}") from error
        return import_netx(path, steps=steps)
