"""What Lightning trains: a model with its loss, optimiser and schedule, one module per method.

    stbp, ann   loss = CE(logits, y), logits averaged over the steps; what the gradient sees of the potential is the
                neurons' own rule (surrogate), or plain back-propagation without neurons
    online      loss_t = CE(logits(t), y) at the chosen steps, an update after each (`snn2chip.train.online`)

The model returns the averaged logits `[B, classes]`. Sources: Wu et al. 2018 (STBP); Hao et al. NeurIPS 2024 (LM-HT);
Hao et al. (EM-PF, arXiv 2410.07547).
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from snn2chip.errors import InputError
from snn2chip.train.batches import STEPS, Batches, generator_of, loader
from snn2chip.train.online import AfterName, draw_steps, online_losses, steps_of
from snn2chip.train.optimise import make_optimiser, make_schedule
from snn2chip.train.recipe import Recipe


class Stbp(LightningModule):
    """Trains on the logits averaged over the steps; batches are (x, labels `[B]`)."""

    def __init__(self, model: nn.Module, recipe: Recipe, *, steps_per_epoch: int) -> None:
        super().__init__()
        self.model, self.recipe, self.steps_per_epoch = model, recipe, steps_per_epoch
        if recipe.memory_order == "channels_last":  # weights as the pictures, or a convolution turns them at every step
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.run: Any = _as_function(model, recipe)

    def forward(self, x: Tensor) -> Tensor:
        """Return the averaged logits `[B, classes]`."""
        logits: Tensor = self.run(x)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss of one batch; raises InputError when the model does not return `[B, classes]`."""
        x, labels = in_memory(batch[0], self.recipe.memory_order), batch[1]
        logits = self.run(x)
        if logits.dim() != 2 or len(logits) != len(labels):
            raise InputError(
                f"{type(self.model).__name__} returned {list(logits.shape)} for {len(labels)} samples; "
                "expected averaged logits [B, classes]"
            )
        loss = cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        self.show(loss)
        return loss

    def show(self, loss: Tensor) -> None:
        """Log the loss where somebody looks."""
        if self.trainer.progress_bar_callback is not None or self.trainer.logger is not None:
            self.log("loss", loss, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """Return the recipe's optimiser and its schedule, stepped once per batch."""
        optimiser = make_optimiser(self.model, self.recipe)
        schedule = make_schedule(optimiser, self.recipe, steps_per_epoch=self.steps_per_epoch)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Online(Stbp):
    """Trains one step at a time; which steps is a function of seed, epoch and batch number."""

    def __init__(self, model: nn.Module, recipe: Recipe, *, steps_per_epoch: int) -> None:
        super().__init__(model, recipe, steps_per_epoch=steps_per_epoch)
        self.automatic_optimization = False
        self.steps = steps_of(model)

    def chosen(self, *, epoch: int, index: int) -> tuple[int, ...]:
        """Return the steps that are trained on in this batch, ascending."""
        if self.recipe.online_steps == "all":
            return tuple(range(self.steps))
        generator = generator_of(self.recipe.seed, epoch, STEPS, index)
        return draw_steps(self.steps, count=int(self.recipe.online_steps), generator=generator)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Train on one batch and return the mean loss of its steps."""
        x, labels = in_memory(batch[0], self.recipe.memory_order), batch[1]
        optimiser = cast("Any", self.optimizers())
        losses = online_losses(
            self.model,
            x,
            labels,
            chosen=self.chosen(epoch=self.current_epoch, index=index),
            after=cast("AfterName", self.recipe.online_after),
            loss=partial(cross_entropy, label_smoothing=self.recipe.label_smoothing),
        )
        seen = []
        optimiser.zero_grad()
        for _, loss in losses:
            self.manual_backward(loss)
            seen.append(loss.detach())
            if self.recipe.online_update == "each":
                optimiser.step()
                optimiser.zero_grad()
        if self.recipe.online_update == "sum":
            optimiser.step()
        cast("Any", self.lr_schedulers()).step()
        mean = torch.stack(seen).mean()
        self.show(mean)
        return mean


class Data(LightningDataModule):
    """The batches of this process, made here or by `workers` processes."""

    def __init__(self, batches: Batches, *, workers: int = 0, pin: bool = False) -> None:
        super().__init__()
        self.batches, self.workers, self.pin = batches, workers, pin

    def train_dataloader(self) -> Any:
        """Return what the trainer iterates."""
        trainer = cast("Any", self.trainer)
        self.batches.share(rank=trainer.global_rank, world=trainer.world_size)
        return loader(self.batches, workers=self.workers, pin=self.pin)


def in_memory(x: Tensor, order: str) -> Tensor:
    """Return pictures `[..,C,H,W]` with their channels last in memory unless `order` is contiguous; others as they are.

    Convolutions, norms and the compiled neurons keep that order through the whole net.
    """
    if order == "contiguous" or x.dim() < 4:
        return x
    pictures = x.flatten(0, -4).contiguous(memory_format=torch.channels_last)
    return torch.unflatten(pictures, 0, x.shape[:-3])


def _as_function(model: nn.Module, recipe: Recipe) -> Any:
    """The model as a plain call, compiled when the recipe says so; its parameters keep their names."""
    if not recipe.compile:
        return model.__call__
    backend = "inductor" if recipe.compile is True else str(recipe.compile)
    compiled: Any = torch.compile(model, backend=backend)
    return lambda x: compiled(x)


def module_for(model: nn.Module, recipe: Recipe, *, steps_per_epoch: int) -> Stbp:
    """Return the module that trains `model` as the recipe's method says."""
    kind = Online if recipe.method == "online" else Stbp
    return kind(model, recipe, steps_per_epoch=steps_per_epoch)
