"""Training from recipes; Lightning and torch are imported only when training starts."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn2chip.train.accuracy import evaluate, predict
    from snn2chip.train.options import RunOptions
    from snn2chip.train.recipe import Recipe, load_recipe
    from snn2chip.train.recipe_files import recipe_names
    from snn2chip.train.run import Trained, train_recipe

_HOME = {
    "Recipe": "recipe",
    "Trained": "run",
    "evaluate": "accuracy",
    "load_recipe": "recipe",
    "predict": "accuracy",
    "recipe_names": "recipe_files",
    "train_recipe": "run",
    "RunOptions": "options",
}

__all__ = ["Recipe", "RunOptions", "Trained", "evaluate", "load_recipe", "predict", "recipe_names", "train_recipe"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
