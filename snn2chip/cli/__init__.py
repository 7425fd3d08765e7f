"""The command line: one file per verb, each thin over the Python API."""

from __future__ import annotations

from snn2chip.cli.command import app, main

__all__ = ["app", "main"]
