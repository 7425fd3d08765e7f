"""The model zoo: spiking and ordinary nets by name."""

from __future__ import annotations

from snn2chip_models.registry import MODELS, build

__all__ = ["MODELS", "build"]
