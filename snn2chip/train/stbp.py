"""Direct training through the surrogate gradient (STBP): cross-entropy of the logits averaged over the steps.

    loss = CE(mean_t logits(t), y)

The model returns the averaged logits `[B, classes]`; what the gradient sees of the potential is the neurons'
own rule. Sources: Wu et al. 2018 (STBP); Hao et al. NeurIPS 2024 (LM-HT).
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from snn2chip.errors import InputError
from snn2chip.train.optimise import make_optimiser, make_schedule
from snn2chip.train.recipe import Recipe


class Stbp(LightningModule):
    """A model with its loss, optimiser and schedule; batches are (x, labels `[B]`)."""

    def __init__(self, model: nn.Module, recipe: Recipe, *, steps_per_epoch: int) -> None:
        super().__init__()
        self.model, self.recipe, self.steps_per_epoch = model, recipe, steps_per_epoch

    def forward(self, x: Tensor) -> Tensor:
        """Return the averaged logits `[B, classes]`."""
        logits: Tensor = self.model(x)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss of one batch; raises InputError when the model does not return `[B, classes]`."""
        x, labels = batch
        logits = self.model(x)
        if logits.dim() != 2 or len(logits) != len(labels):
            raise InputError(
                f"{type(self.model).__name__} returned {list(logits.shape)} for {len(labels)} samples; "
                "expected averaged logits [B, classes]"
            )
        loss = cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        if self.trainer.progress_bar_callback is not None or self.trainer.logger is not None:
            self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """Return the recipe's optimiser and its schedule, stepped once per batch."""
        optimiser = make_optimiser(self.model, self.recipe)
        schedule = make_schedule(optimiser, self.recipe, steps_per_epoch=self.steps_per_epoch)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
