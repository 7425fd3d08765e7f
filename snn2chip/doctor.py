"""What this machine offers: versions, backends, devices, data sets. Nothing heavy is imported to find out."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

import snn2chip
from snn2chip.checks.usable import why_missing
from snn2chip.data.catalog import DATA_NAMES, find_data, where_to_put
from snn2chip.registry import backend_names

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "safetensors",
    "scikit-learn",
    "lava-nc",
    "lava-dl",
    "lightning",
    "torchvision",
    "typer",
)
NVIDIA = Path("/proc/driver/nvidia/gpus")


def origin() -> str:
    """One line that says what is running: version, commit in a clone, Python, and the packages that decide results."""
    commit = _commit(Path(snn2chip.__file__).resolve().parents[1] / ".git")
    parts = [*([f"commit {commit}"] if commit else []), f"Python {platform.python_version()}"]
    parts += [f"{name} {version}" for name in ("torch", "numpy", "lava-nc") if (version := _version(name)) is not None]
    return f"snn2chip {snn2chip.__version__} ({', '.join(parts)})"


def _commit(folder: Path) -> str:
    """The commit of a clone, read without git; empty anywhere else."""
    try:
        head = (folder / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head[:12]
        name = head.removeprefix("ref: ")
        if (folder / name).is_file():
            return (folder / name).read_text().strip()[:12]
        rows = (row.split() for row in (folder / "packed-refs").read_text().splitlines())
        return next((row[0][:12] for row in rows if row[1:] == [name]), "")
    except OSError:
        return ""


@attrs.frozen(kw_only=True)
class Health:
    """What was found: version or None per package, reason or None per backend, devices, place per data set."""

    versions: Mapping[str, str | None]
    backends: Mapping[str, str | None]
    devices: tuple[Mapping[str, str], ...]
    data: Mapping[str, Mapping[str, str | None]]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "versions": dict(self.versions),
            "backends": {k: {"available": why is None, "reason": why} for k, why in self.backends.items()},
            "devices": [dict(device) for device in self.devices],
            "data": {k: dict(v) for k, v in self.data.items()},
        }


def examine() -> Health:
    """Look at this machine."""
    return Health(
        versions={"snn2chip": snn2chip.__version__, "python": platform.python_version(), **_packages()},
        backends={name: why_missing(name) for name in backend_names()},
        devices=(_cpu(), *_gpus()),
        data={name: _data(name) for name in DATA_NAMES},
    )


def _packages() -> dict[str, str | None]:
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"name": "cpu", "what": f"{platform.machine()}, {cores} cores, {platform.system()}"}


def _gpus() -> list[dict[str, str]]:
    """CUDA devices by name; torch (seconds to import) is asked only where an NVIDIA driver is loaded."""
    if platform.system() == "Linux" and not NVIDIA.exists() and not Path("/dev/dxg").exists():
        return []
    import torch

    from snn2chip.triton_here import why_no_triton

    found = []
    for i in range(torch.cuda.device_count()):
        about, why = torch.cuda.get_device_properties(i), why_no_triton(torch.device("cuda", i))
        kernels = f"no Triton kernels: {why}" if why else "Triton kernels"
        found.append({"name": f"cuda:{i}", "what": f"{about.name}, {about.total_memory / 2**30:.0f} GiB; {kernels}"})
    return found


def _data(name: str) -> dict[str, str | None]:
    if name == "digits":
        return {"path": "with scikit-learn", "hint": None}
    path = find_data(name)
    return {"path": None if path is None else str(path), "hint": where_to_put(name) if path is None else None}
