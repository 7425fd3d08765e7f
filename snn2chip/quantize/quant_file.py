"""What a TOML file asks of the quantizer: a width for all layers and others by name pattern.

    weights = "int8"
    bias_correction = true
    rounding = "fitted"
    [layers."layer1.*"]
    weights = "int4"

A pattern is matched against a layer's name and path as a shell would (`*`, `?`, `[abc]`); the first that fits counts.
`bias_correction` takes what rounding the weights adds to the mean currents off the biases (`bias_correction.py`);
`rounding = "fitted"` chooses weights, units and biases on the calibration samples (`calibrated.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snn2chip.errors import InputError
from snn2chip.quantize.spec import ROUNDINGS, QuantSpec
from snn2chip.toml_files import toml_tables

KEYS = ("weights", "bias_correction", "rounding", "layers")


def read_quant(path: str | Path) -> QuantSpec:
    """Read a TOML file of widths; raises InputError that lists every key and value that does not fit."""
    path = Path(path)
    try:
        found: dict[str, Any] = toml_tables(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: no TOML ({error})") from error
    bad = [f"unknown key {key!r}; known: {', '.join(KEYS)}" for key in found if key not in KEYS]
    correction = found.get("bias_correction", False)
    if not isinstance(correction, bool):
        bad.append(f"bias_correction must be true or false, got {correction!r}")
    rounding = found.get("rounding", "nearest")
    if rounding not in ROUNDINGS:
        bad.append(f"rounding must be {' or '.join(ROUNDINGS)}, got {rounding!r}")
    layers = found.get("layers", {})
    if not isinstance(layers, dict):
        bad.append('layers must be tables like [layers."fc*"]')
        layers = {}
    overrides: dict[str, Any] = {}
    for pattern, table in layers.items():
        if not isinstance(table, dict) or set(table) != {"weights"}:
            bad.append(f'[layers."{pattern}"] must have the one key weights')
            continue
        overrides[pattern] = table["weights"]
    for where, mode in (("weights", found.get("weights", "keep")), *overrides.items()):
        try:
            QuantSpec(weights=mode)
        except InputError as error:
            bad.append(f"{where}: {error}")
    if bad:
        raise InputError(f"{path}: " + "; ".join(bad))
    return QuantSpec(
        weights=found.get("weights", "keep"), overrides=overrides, bias_correction=correction, rounding=rounding
    )
