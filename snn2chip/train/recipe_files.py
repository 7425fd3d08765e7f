"""Where recipes lie and how one builds on another: `base = "NAME"` takes over all keys of that recipe but its title.

A table of the recipe is laid over the base's table key by key (`args` too); everything else replaces it. A base may be
a recipe of the zoo, one of its partial ones (`base/lmht`), or, by a path ending in .toml, a file beside this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from snn2chip.errors import InputError
from snn2chip.toml_files import toml_tables

_OWN = ("base", "title", "paper", "convert")
"""What a recipe says for itself alone."""


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the zoo."""
    return _names(resources.files("snn2chip_models") / "recipes")


def _names(folder: Any, *, lead: str = "") -> list[str]:
    names = (entry.name for entry in folder.iterdir())
    return sorted(lead + name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def read_tables(name_or_path: str | Path) -> dict[str, Any]:
    """Return the tables of a recipe with those of its bases.

    Raises InputError that lists the known names, or says what is no TOML file, or which bases lead back to themselves.
    """
    return _read(str(name_or_path), above=(), folder=None)


def _read(text: str, *, above: tuple[str, ...], folder: Path | None) -> dict[str, Any]:
    if text in above:
        raise InputError(f"recipe {above[0]}: its bases lead back to {text!r}")
    path = Path(text) if folder is None or not text.endswith(".toml") else folder / text
    tables = _tables(_content(text, path, partial=bool(above)), text)
    if "base" not in tables:
        return tables
    if not isinstance(tables["base"], str):
        raise InputError(f"recipe {text}: base={tables['base']!r}, expected the name of a recipe")
    base = _read(tables["base"], above=(*above, text), folder=path.parent if text.endswith(".toml") else None)
    return laid_over({key: value for key, value in base.items() if key not in _OWN}, tables)


def _content(text: str, path: Path, *, partial: bool) -> bytes:
    if text.endswith(".toml"):
        if not path.is_file():
            raise InputError(f"recipe {path}: no such file")
        return path.read_bytes()
    folder = resources.files("snn2chip_models") / "recipes"
    if text not in recipe_names() and not (partial and text in _names(folder / "base", lead="base/")):
        raise InputError(f"recipe {text!r} is unknown; known: {', '.join(recipe_names())}, or the path of a .toml file")
    return (folder / f"{text}.toml").read_bytes()


def _tables(content: bytes, text: str) -> dict[str, Any]:
    try:
        return toml_tables(content)
    except ValueError as error:
        raise InputError(f"recipe {text}: not a TOML file ({error})") from error


def laid_over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with every key of `own`, tables key by key; `base` itself is not among them."""
    merged = dict(base)
    for key, value in own.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = laid_over(old, value) if both else value  # type: ignore[arg-type]
    merged.pop("base", None)
    return merged
