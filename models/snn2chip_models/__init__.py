"""The model zoo: spiking and ordinary nets by name."""

from __future__ import annotations

from snn2chip_models.registry import MODELS, build
from snn2chip_models.shipped import shipped, shipped_names

__all__ = ["MODELS", "build", "shipped", "shipped_names"]
