"""Options of the verbs that read files of other tools: X.nir by its profile, X.net as NetX reads it or otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import attrs
import typer

from snn2chip.errors import InputError

NirProfile = Annotated[
    str | None,
    typer.Option("--nir-profile", metavar="NAME", help="The framework that wrote X.nir: snntorch, norse, sinabs, ..."),
]
NirOptions = Annotated[
    list[str] | None,
    typer.Option("--nir-option", metavar="KEY=VALUE", help="One convention of the profile otherwise; repeatable."),
]
NumLayers = Annotated[
    int | None, typer.Option("--num-layers", metavar="N", min=1, help="Only the first N layers of X.net.")
]
NetxIgnore = Annotated[
    list[str] | None,
    typer.Option("--netx-ignore", metavar="FIELD", help="Import X.net without a field, as NetX does; repeatable."),
]
NetxNumbers = Annotated[
    str, typer.Option("--netx-numbers", help="Whose weights of X.net: netx (as it changes them) or file.")
]
NetxInputShape = Annotated[
    str | None,
    typer.Option("--netx-input-shape", metavar="C,H,W", help="What X.net reads, where it does not say that."),
]


@attrs.frozen(kw_only=True)
class ImportFlags:
    """What was said about a file of another tool; each flag is for one kind of file."""

    nir_profile: str | None
    nir_options: list[str] | None
    num_layers: int | None
    netx_ignore: list[str] | None
    netx_numbers: str
    netx_input_shape: str | None

    def misplaced(self, source: Path) -> list[str]:
        """A sentence for each kind of file whose flags were given for another one."""
        kinds: dict[str, dict[str, Any]] = {
            ".nir": {"--nir-profile": self.nir_profile, "--nir-option": self.nir_options},
            ".net": {
                "--num-layers": self.num_layers,
                "--netx-ignore": self.netx_ignore,
                "--netx-numbers": None if self.netx_numbers == "netx" else self.netx_numbers,
                "--netx-input-shape": self.netx_input_shape,
            },
        }
        found = []
        for suffix, flags in kinds.items():
            given = [name for name, value in flags.items() if value not in (None, [])]
            if given and source.suffix != suffix:
                found.append(f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} for X{suffix} files")
        return found

    def netx(self) -> dict[str, Any]:
        """Options of `import_netx`; InputError for a shape that is none."""
        return {
            "num_layers": self.num_layers,
            "ignore": tuple(self.netx_ignore or ()),
            "numbers": self.netx_numbers,
            "input_shape": None if self.netx_input_shape is None else parse_shape(self.netx_input_shape),
        }


def parse_shape(text: str) -> tuple[int, ...]:
    """`C,H,W` or `N` as whole numbers of at least 1; InputError for anything else."""
    found = tuple(int(part) if part.strip().isdecimal() and len(part) < 10 else 0 for part in text.split(","))
    if len(found) not in (1, 3) or min(found) < 1:
        raise InputError(f"--netx-input-shape {text!r}: expected one or three whole numbers, as in 2,32,32")
    return found
