"""Where a report comes from: versions, hashes, command, seed."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from snn2chip.ir.program import Program
from snn2chip.origin import made_from, versions

PACKAGES = ("numpy", "scipy", "torch", "safetensors", "matplotlib", "jinja2", "lava-nc")


def provenance(program: Program, *, command: bool = False) -> dict[str, Any]:
    """Versions, digest and notes of the program; with `command` the command line of this process."""
    return {
        "made": datetime.now(timezone.utc).replace(microsecond=0).isoformat(),
        "versions": versions(PACKAGES),
        "machine": f"{platform.system()} {platform.machine()}",
        "program": program.digest(),
        "target": program.target,
        "seed": _seed(program.meta),
        "notes": made_from(program),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]) if command else None,
    }


def _seed(meta: Mapping[str, Any]) -> Any:
    for key in ("seed", "train_seed"):
        if key in meta:
            return meta[key]
    recipe = meta.get("recipe")
    return recipe.get("seed") if isinstance(recipe, Mapping) else None
