"""What an importer finds wrong, unsupported or worth knowing, collected over all layers before anything is raised."""

from __future__ import annotations

import os
from collections.abc import Collection

import attrs

from snn2chip.errors import UnsupportedError
from snn2chip.frontends.netx_file import LayerSpec, broken

IGNORABLE = {
    "delay": "conv layers have no axonal delay in NetX",
    "refDelay": "NetX neurons have no refractory time",
    "wgtExp": "NetX does not apply a weight exponent",
    "weight_exp": "NetX does not apply the exponent of a norm",
    "gradedSpike": "NetX spikes are binary",
    "activation": "sigma-delta neurons of NetX rectify",
}
"""Fields that change what the author trained, and that NetX reads past in silence."""


def ignoring(field: str) -> str:
    """How to ignore a field, on the command line and in Python."""
    return f"--netx-ignore {field} (ignore=('{field}',))"


def numbered(way: str) -> str:
    """How to choose whose numbers are taken, on the command line and in Python."""
    return f"--netx-numbers {way} (numbers='{way}')"


@attrs.define
class Issues:
    """Findings so far: damage, things out of reach, and notes for the user (which change nothing)."""

    ignore: Collection[str] = ()
    damage: list[str] = attrs.field(factory=list)
    refused: list[str] = attrs.field(factory=list)
    notes: list[dict[str, str]] = attrs.field(factory=list)

    def damaged(self, layer: LayerSpec, text: str) -> None:
        """The file contradicts itself in this layer."""
        self.damage.append(f"{layer.name}: {text}")

    def refuse(self, layer: LayerSpec, text: str) -> None:
        """The layer is sound but cannot be imported."""
        self.refused.append(f"{layer.name}: {text}")

    def note(self, layer: LayerSpec, text: str) -> None:
        """Something the user should know about an imported layer."""
        self.notes.append({"node": f"layer{layer.index}", "layer": layer.path, "note": text})

    def reads_past(self, layer: LayerSpec, field: str, value: object) -> None:
        """A field that NetX ignores: refused unless the caller accepts NetX's behaviour by name."""
        why = IGNORABLE[field]
        if field in self.ignore:
            self.note(layer, f"{field} = {value} is ignored, as NetX does: {why}")
        else:
            self.refuse(layer, f"{field} = {value}, but {why}; {ignoring(field)} imports what NetX computes")

    def unknown(self, layer: LayerSpec, field: str) -> None:
        """A field that neither lava-dl writes nor NetX reads: refused unless the caller ignores it by name."""
        if field in self.ignore:
            self.note(layer, f"{field} is ignored, as NetX does: it does not know it")
        else:
            self.refuse(
                layer,
                f"the field {field} is none that lava-dl writes or NetX reads; {ignoring(field)} imports what NetX "
                "computes without it",
            )

    def raise_if_any(self, path: str | os.PathLike[str]) -> None:
        """FileFormatError for damage, else UnsupportedError for what was refused, each with everything in it."""
        if self.damage:
            raise broken(path, self.damage)
        if self.refused:
            raise UnsupportedError([f"{path}: {text}" for text in self.refused])
