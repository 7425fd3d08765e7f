"""Recipes: what to train and how, as one TOML file.

    title, method, seed, epochs, batch, threads (CPU threads: part of the recipe, since sums depend on them),
    precision (32 | bf16-mixed | 16-mixed), compile (torch.compile), deterministic,
    memory (channels_last | contiguous: the order of a picture's values while training; channels_last in mixed
    precision and contiguous otherwise when not given)
    [data] name, frames (of events; T when not given), train_samples, test_samples (the first of them)
    [input] scale, mean, std             x = (raw*scale - mean)/std
    [model] name, args                   args hold T, L, weights (binary | ternary | intN), qat, ...
    [optimiser] name, lr, weight_decay, decay (weights | all), momentum, nesterov
    [schedule] name, warmup, milestones and gamma (of `step`: lr times gamma from each of these epochs on)
    [loss] label_smoothing               [augment] what `snn2chip.train.augment` lists
    [online] steps (1, K, or "all"), update (each | sum), after (stop | refresh): see `snn2chip.train.online`

`method`: stbp (spiking nets through the surrogate gradient), ann (ReLU or QCFS nets), online (one step at a time).

    [init] recipe, convert               weights to start from: what trains them, and what makes of them ("hybrid")
    [convert] or [[convert]] method, steps (one or several), options      conversions after training
    [paper] accuracy, or ann and steps: what the paper reports in percent (`steps` a table: T = accuracy)
    base = "NAME"                        take over another recipe: see `snn2chip.train.recipe_files`

Only `method`, `epochs`, `[data]`, `[model]` and `[optimiser]` must be there. Adding a recipe is one file in
the zoo's `recipes` folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from snn2chip.errors import InputError
from snn2chip.train.augment import AUGMENTATIONS, BY_NAME, ONE_WAY_ROUND, SHARES
from snn2chip.train.recipe_files import read_tables

METHODS = ("stbp", "ann", "online")
OPTIMISERS = ("sgd", "adamw")
SCHEDULES = ("constant", "cosine", "step")
DECAYS = ("weights", "all")
UPDATES = ("each", "sum")
AFTER = ("stop", "refresh")
PRECISIONS = ("32", "bf16-mixed", "16-mixed")
MEMORY = ("channels_last", "contiguous")


@attrs.frozen(kw_only=True)
class Recipe:
    """One training run; `lr` and `weight_decay` belong to the optimiser, `warmup` counts epochs."""

    name: str
    method: str
    data: str
    model: str
    epochs: int
    lr: float
    title: str = ""
    seed: int = 0
    batch: int = 64
    threads: int = 1
    args: Mapping[str, Any] = attrs.field(factory=dict)
    scale: float = 1.0
    mean: float | list[float] = 0.0
    std: float | list[float] = 1.0
    optimiser: str = "adamw"
    weight_decay: float = 0.0
    decay: str = "weights"
    momentum: float = 0.9
    nesterov: bool = True
    schedule: str = "cosine"
    warmup: float = 0.0
    milestones: Sequence[float] = ()
    gamma: float = 0.1
    label_smoothing: float = 0.0
    online_steps: int | str = 1
    online_update: str = "each"
    online_after: str = "stop"
    frames: int | None = None
    train_samples: int | None = None
    test_samples: int | None = None
    augment: Mapping[str, float | str] = attrs.field(factory=dict)
    init: Mapping[str, str] = attrs.field(factory=dict)
    convert: Sequence[Mapping[str, Any]] = ()
    paper: Mapping[str, Any] = attrs.field(factory=dict)
    precision: str = "32"
    compile: bool | str = False
    deterministic: bool = True
    memory: str | None = None

    def __attrs_post_init__(self) -> None:
        if breaches := list(self._breaches()):
            raise InputError([f"recipe {self.name!r}: {text}" for text in breaches])

    @property
    def memory_order(self) -> str:
        """What `memory` says, or what is mostly faster in this precision."""
        return self.memory or ("contiguous" if self.precision == "32" else "channels_last")

    def _breaches(self) -> Iterator[str]:
        for key, known in _CHOICES:
            if getattr(self, key) not in known:
                yield f"{key} {getattr(self, key)!r} is unknown; known: {', '.join(known)}"
        for key in ("epochs", "batch", "threads"):
            if not _whole(getattr(self, key)) or getattr(self, key) < 1:
                yield f"{key}={getattr(self, key)!r}, expected a whole number of at least 1"
        if not _whole(self.seed) or self.seed < 0:
            yield f"seed={self.seed!r}, expected a whole number of at least 0"
        for key, low, high in _RANGES:
            value = getattr(self, key)
            if not _real(value) or not low <= value <= high:
                yield f"{key}={value!r}, expected a number from {low:g} to {high:g}"
        if self.memory not in (None, *MEMORY):
            yield f"memory {self.memory!r} is unknown; known: {', '.join(MEMORY)}"
        if self.lr == 0:
            yield "lr=0 trains nothing"
        for key in ("frames", "train_samples", "test_samples"):
            if (value := getattr(self, key)) is not None and (not _whole(value) or value < 1):
                yield f"{key}={value!r}, expected a whole number of at least 1"
        for key in ("nesterov", "deterministic"):
            if not isinstance(getattr(self, key), bool):
                yield f"{key}={getattr(self, key)!r}, expected true or false"
        if not isinstance(self.compile, (bool, str)):
            yield f"compile={self.compile!r}, expected true, false or the name of a backend"
        if self.compile and self.method == "online":
            yield "compile is for stbp and ann; online training changes how the model runs"
        if self.schedule == "step" and not self.milestones:
            yield "schedule 'step' needs milestones, the epochs at which the rate falls"
        if not isinstance(self.milestones, Sequence) or not all(_real(m) and m > 0 for m in self.milestones):
            yield f"milestones={self.milestones!r}, expected epochs above 0"
        if self.online_steps != "all" and (not _whole(self.online_steps) or int(self.online_steps) < 1):
            yield f"online.steps={self.online_steps!r}, expected a whole number of at least 1, or 'all'"
        yield from self._augment_breaches()
        yield from self._link_breaches()

    def _augment_breaches(self) -> Iterator[str]:
        for key, value in self.augment.items():
            if key not in AUGMENTATIONS:
                yield f"augmentation {key!r} is unknown; known: {', '.join(AUGMENTATIONS)}"
                continue
            if key in BY_NAME:
                if value not in BY_NAME[key]:
                    yield f"augment.{key}={value!r}, known: {', '.join(BY_NAME[key])}"
                continue
            high = 1.0 if key in SHARES else 1e6
            if not _real(value) or not 0 <= float(value) <= high:
                yield f"augment.{key}={value!r}, expected a number from 0 to {high:g}"
        if self.augment.get("flip") and self.data in ONE_WAY_ROUND:
            yield f"augment.flip makes other characters of {self.data}; leave it out"

    def _link_breaches(self) -> Iterator[str]:
        from snn2chip.convert.options import check_method, check_options

        for key, value in self.init.items():
            if key not in ("recipe", "convert") or not isinstance(value, str):
                yield f"init.{key}={value!r}; known: recipe (a name), convert"
        if self.init and "recipe" not in self.init:
            yield "init.recipe is missing"
        if self.init.get("convert", "hybrid") != "hybrid":
            yield f"init.convert={self.init['convert']!r}, known: hybrid"
        for key, value in self.paper.items():
            numbers = list(value.values()) if key == "steps" and isinstance(value, Mapping) else [value]
            if key not in ("accuracy", "ann", "steps") or not all(_real(n) and 0 < n <= 100 for n in numbers):
                yield f"paper.{key}={value!r}; known: accuracy, ann, steps, in percent"
        for entry in self.convert:
            if unknown := set(entry) - {"method", "steps", "options"}:
                yield f"unknown keys convert.{', '.join(sorted(unknown))}; known: method, steps, options"
                continue
            try:
                for count in steps_of_conversion(entry):
                    check_method(entry.get("method", ""), count)
                check_options(entry["method"], entry.get("options", {}))
            except InputError as error:
                yield from (f"convert: {text}" for text in error.breaches)

    @property
    def steps(self) -> int | None:
        """T of the model's arguments, if the recipe says it."""
        return self.args.get("T")


_CHOICES = (
    ("method", METHODS),
    ("optimiser", OPTIMISERS),
    ("schedule", SCHEDULES),
    ("decay", DECAYS),
    ("precision", PRECISIONS),
    ("online_update", UPDATES),
    ("online_after", AFTER),
)
_RANGES = (
    ("lr", 0.0, 1e3),
    ("weight_decay", 0.0, 1e3),
    ("momentum", 0.0, 1.0),
    ("warmup", 0.0, 1e6),
    ("gamma", 0.0, 1.0),
    ("label_smoothing", 0.0, 1.0),
)
_TABLES: dict[str, dict[str, str]] = {
    "data": {"name": "data", "frames": "frames", "train_samples": "train_samples", "test_samples": "test_samples"},
    "model": {"name": "model", "args": "args"},
    "input": {"scale": "scale", "mean": "mean", "std": "std"},
    "optimiser": {
        "name": "optimiser",
        **{key: key for key in ("lr", "weight_decay", "decay", "momentum", "nesterov")},
    },
    "schedule": {"name": "schedule", **{key: key for key in ("warmup", "milestones", "gamma")}},
    "loss": {"label_smoothing": "label_smoothing"},
    "online": {"steps": "online_steps", "update": "online_update", "after": "online_after"},
}
_TOP = ("title", "method", "seed", "epochs", "batch", "threads", "precision", "compile", "deterministic", "memory")
_OTHERS = ("augment", "init", "convert", "paper", "base")
_NEEDED = ("method", "epochs", "data.name", "model.name", "optimiser.name", "optimiser.lr")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _real(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe of the zoo by name, or a TOML file by its path.

    Raises InputError that lists the known names, or everything that is wrong in the file.
    """
    tables = read_tables(name_or_path)
    text = str(name_or_path)
    return recipe_from(tables, name=Path(text).name.removesuffix(".toml"))


def recipe_from(tables: Mapping[str, Any], *, name: str) -> Recipe:
    """Return the recipe of parsed TOML tables; raises InputError that lists every unknown and missing key."""
    fields: dict[str, Any] = {"name": name}
    breaches: list[str] = []
    for key, value in tables.items():
        if key in _TOP:
            fields[key] = value
        elif key == "convert" and isinstance(value, (Mapping, list)):
            fields["convert"] = [value] if isinstance(value, Mapping) else value
        elif key in ("init", "paper") and isinstance(value, Mapping):
            fields[key] = dict(value)
        elif key == "augment" and isinstance(value, Mapping):
            fields["augment"] = dict(value)
        elif key in _TABLES and isinstance(value, Mapping):
            known = _TABLES[key]
            breaches += [f"unknown key {key}.{k}; known: {', '.join(known)}" for k in value if k not in known]
            fields |= {known[k]: v for k, v in value.items() if k in known}
        else:
            breaches.append(f"unknown key {key!r}; known: {', '.join([*_TOP, *_TABLES, *_OTHERS])}")
    breaches += [f"{key} is missing" for key in _NEEDED if not _has(tables, key)]
    if breaches:
        raise InputError([f"recipe {name!r}: {text}" for text in breaches])
    return Recipe(**fields)


def steps_of_conversion(entry: Mapping[str, Any]) -> list[int | None]:
    """Return the T of every conversion an entry of [[convert]] asks for."""
    steps = entry.get("steps")
    return list(steps) if isinstance(steps, list) else [steps]


def _has(tables: Any, dotted: str) -> bool:
    for key in dotted.split("."):
        if not isinstance(tables, Mapping) or key not in tables:
            return False
        tables = tables[key]
    return True
