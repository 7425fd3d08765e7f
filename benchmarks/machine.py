"""What the figures were measured on, and how many threads the libraries may use."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from snn2chip.threads import torch_threads


def describe_machine(threads: int) -> dict[str, Any]:
    """Processor, cores, threads used, accelerator and versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "load": round(os.getloadavg()[0], 2),
    }


MEASURED = ("snn2chip", "backends", "models", "benchmarks/*.py", "benchmarks/lowering/*.py")
"""What a figure depends on; a file of these that differs from the commit is said."""


def circumstances(packages: tuple[str, ...], *, folder: Path | None = None) -> dict[str, Any]:
    """Time, commit (`+`: with changes), load of the last minute, versions of `packages` (those in `folder` first)."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "load": round(os.getloadavg()[0], 2),
        "versions": versions(packages, folder=folder),
    }


def commit() -> str | None:
    """Short name of the commit that is checked out; None outside of a repository."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *MEASURED).strip()
        return git("rev-parse", "--short=10", "HEAD").strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions(packages: tuple[str, ...], *, folder: Path | None = None) -> dict[str, str]:
    """Versions of the packages that are installed, those in `folder` first."""
    there = {} if folder is None else {d.metadata["Name"].lower(): d.version for d in distributions(path=[str(folder)])}
    found: dict[str, str] = {}
    for name in packages:
        try:
            found[name] = there[name.lower()] if name.lower() in there else version(name)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """The same number of threads for PyTorch and for NumPy's BLAS; as before afterwards."""
    with torch_threads(threads), threadpool_limits(limits=threads):
        yield
