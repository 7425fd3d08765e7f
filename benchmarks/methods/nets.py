"""The trained nets behind the rows: each is trained once from a recipe of the zoo and kept with what it cost.

    NAME-sSEED.safetensors    the checkpoint            NAME-sSEED.json    recipe, accuracy, CPU seconds

A net is trained again when its recipe has changed. A training that was killed goes on where it stopped. Learning
rates are chosen on the training set alone: its first part trains, its last part validates.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks.methods.result import essence
from snn2chip.ir.files import write_text
from snn2chip.train import evaluate, load_recipe, train_recipe
from snn2chip.train.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from snn2chip.checkpoint_header import CheckpointHeader

RATE_EPOCHS, RATE_TRAIN, RATE_TEST = 2, 10_000, 5_000
"""A learning rate is tried for this many epochs on the first samples and judged on the last."""
QUICK: Mapping[str, Any] = {"epochs": 1, "train_samples": 400, "test_samples": 200}


@attrs.frozen(kw_only=True, eq=False)
class Net:
    """A trained net in eval mode, its recipe and header, test accuracy in percent and CPU seconds of training."""

    path: Path
    recipe: Recipe
    model: nn.Module
    header: CheckpointHeader
    accuracy: float
    seconds: float


@attrs.define(eq=False)
class Nets:
    """The folder of trained nets; `quick` trains a few samples for one epoch. `used` holds what was asked for."""

    folder: Path
    quick: bool = False
    used: dict[str, Net] = attrs.field(factory=dict)
    spent: float = 0.0  # CPU seconds of training in this process
    _data: dict[Any, Any] = attrs.field(factory=dict)

    def recipe(self, name: str, *, seed: int = 0, **changes: Any) -> Recipe:
        """Return a recipe of the zoo with a seed and changes."""
        recipe = attrs.evolve(load_recipe(name), seed=seed, **changes)
        if not self.quick:
            return recipe
        smaller = {"train_samples": min(QUICK["train_samples"], recipe.train_samples or 10**9)}
        tested = {"test_samples": min(QUICK["test_samples"], recipe.test_samples or 100)}
        return attrs.evolve(recipe, epochs=1, **smaller, **tested)

    def get(self, name: str, *, seed: int = 0, tag: str = "", **changes: Any) -> Net:
        """Return the net of a recipe, trained now unless it is there; `tag` marks changes in its file name.

        A recipe that starts from another is trained from that one's net.
        """
        from snn2chip.checkpoint import load_checkpoint

        recipe = self.recipe(name, seed=seed, **changes)
        path = self.folder / f"{name}{tag}-s{seed}.safetensors"
        said = path.with_suffix(".json")
        if not self._is_there(path, recipe):
            init = self.get(recipe.init["recipe"]).path if recipe.init else None
            clock = time.process_time()
            trained = train_recipe(recipe, out=path, progress=False, init=init)
            seconds = time.process_time() - clock
            self.spent += seconds
            fields = {"recipe": essence(recipe), "accuracy": trained.accuracy, "cpu_seconds": round(seconds, 1)}
            write_text(said, json.dumps(fields, indent=1) + "\n")
        model, header = load_checkpoint(path)
        fields = json.loads(said.read_text())
        net = Net(
            path=path,
            recipe=recipe,
            model=model,
            header=header,
            accuracy=100 * fields["accuracy"],
            seconds=fields["cpu_seconds"],
        )
        self.used[path.stem] = net
        return net

    @staticmethod
    def _is_there(path: Path, recipe: Recipe) -> bool:
        said = path.with_suffix(".json")
        return path.is_file() and said.is_file() and json.loads(said.read_text())["recipe"] == essence(recipe)

    def rate(self, name: str, candidates: Sequence[float]) -> tuple[float, dict[str, float]]:
        """Return the best of the candidate learning rates and every validation accuracy in percent."""
        raw, labels = self.data(self.recipe(name).data, "train")
        held = (raw[-RATE_TEST:], labels[-RATE_TEST:])
        scores = {}
        for lr in candidates:
            tried: dict[str, Any] = {"lr": lr, "epochs": RATE_EPOCHS, "train_samples": RATE_TRAIN, "test_samples": 1}
            net = self.get(name, tag=f"-lr{lr:g}", **tried)
            scores[f"{lr:g}"] = 100 * evaluate(net.model, held, spec=net.header.input)
        best = max(candidates, key=lambda lr: scores[f"{lr:g}"])
        return best, scores

    def with_rate(self, name: str, lr: float, *, seed: int = 0) -> Net:
        """Return the net of a recipe at this learning rate, which is its own unless another was found better."""
        own = self.recipe(name).lr == lr
        return self.get(name, seed=seed) if own else self.get(name, seed=seed, lr=lr, tag=f"-lr{lr:g}-long")

    def data(self, name: str, split: str, *, frames: int | None = None) -> tuple[Any, Any]:
        """Return all raw samples and labels of a split; kept in memory."""
        from snn2chip.data import load_data

        key = (name, split, frames)
        if key not in self._data:
            self._data[key] = load_data(name, split=split, steps=frames)
        return self._data[key]

    def test(self, net: Net, samples: int | None = None) -> tuple[Any, Any]:
        """Return the first test samples (raw) of the data set a net was trained on, and their labels."""
        frames = net.recipe.frames or (net.recipe.steps if net.header.input.time else None)
        raw, labels = self.data(net.recipe.data, "test", frames=frames)
        count = 200 if self.quick else samples
        return raw[:count], labels[:count]

    def inputs(self, net: Net, split: str, samples: int, *, start: int = 0) -> Tensor:
        """Return samples as the net's own input, `[N,...]` (static data)."""
        raw, _ = self.data(net.recipe.data, split)
        samples = min(samples, 200) if self.quick else samples
        return net.header.input.apply(raw[start : start + samples])
