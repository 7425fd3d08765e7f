"""Where a report comes from: versions, hashes, command, seed."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from snn2chip.ir.program import Program
from snn2chip.origin import command, made_from, versions

PACKAGES = ("numpy", "scipy", "torch", "safetensors", "matplotlib", "jinja2", "lava-nc")


def provenance(program: Program) -> dict[str, Any]:
    """Versions, digest and notes of the program, the command of this process; `made` is its only moment."""
    return {
        "made": datetime.now(timezone.utc).replace(microsecond=0).isoformat(),
        "versions": versions(PACKAGES),
        "machine": f"{platform.system()} {platform.machine()}",
        "program": program.digest(),
        "target": program.target,
        "seed": _seed(program.meta),
        "notes": made_from(program),
        "command": command(),
    }


def _seed(meta: Mapping[str, Any]) -> Any:
    for key in ("seed", "train_seed"):
        if key in meta:
            return meta[key]
    recipe = meta.get("recipe")
    return recipe.get("seed") if isinstance(recipe, Mapping) else None
