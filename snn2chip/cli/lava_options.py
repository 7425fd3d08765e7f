"""Options of the Lava backend, for every verb that may use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn2chip.errors import InputError

if TYPE_CHECKING:
    from snn2chip.registry import Backend

LavaLayout = Annotated[
    str | None,
    typer.Option(
        "--lava-layout",
        metavar="LAYOUT",
        help="Lava: stock (its own processes where exact, the default), layer (one process per layer) or fused (one "
        "for the whole network, a fast mode and no independent check).",
    ),
]
LavaMode = Annotated[
    str | None,
    typer.Option("--lava-mode", metavar="MODE", help="Lava: sync (the default), or async without the step barrier."),
]
LavaBatch = Annotated[
    int | None,
    typer.Option("--lava-batch", metavar="N", min=1, help="Lava: samples per message, not with stock (default: many)."),
]


def lava_options(layout: str | None, mode: str | None, batch: int | None) -> dict[str, Any]:
    """What was given, as options of the backend."""
    given = {"layout": layout, "mode": mode, "batch": batch}
    return {key: value for key, value in given.items() if value is not None}


def with_lava(names: Sequence[str], options: dict[str, Any]) -> list[str | Backend]:
    """The backends, "lava" with these options; raises InputError if there are options and no such backend."""
    from snn2chip.registry import get_backend

    if options and "lava" not in names:
        flags = ", ".join(f"--lava-{key}" for key in options)
        raise InputError(f"{flags}: the backend lava is not used here ({', '.join(names)})")
    return [get_backend("lava", **options) if options and name == "lava" else name for name in names]
