"""Logits and accuracy of a float model on raw samples, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snn2chip.checkpoint_header import InputSpec
from snn2chip.errors import InputError

_BLOCK = 1024  # samples read at a time


@torch.no_grad()
def predict(
    model: nn.Module, raw: Any, *, spec: InputSpec | None = None, batch: int = 256, device: str = "cpu"
) -> NDArray[np.float32]:
    """Return the logits `[N, classes]` of raw samples; `spec` says how they become the model's input.

    Without `spec` the samples `[N, ...]` are the model's own input. The model is left in the mode it was in.
    """
    if len(raw) == 0:
        raise InputError("no samples given")
    training = model.training
    model = model.eval().to(device)
    parts = []
    for start in range(0, len(raw), batch):
        part = raw[start : start + batch]
        x = torch.as_tensor(np.asarray(part)) if spec is None else spec.apply(part)
        parts.append(model(x.to(device)).float().cpu())
    model.train(training)
    logits: NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def evaluate(
    model: nn.Module, data: Any, *, spec: InputSpec | None = None, batch: int = 256, device: str = "cpu"
) -> float:
    """Return the accuracy, 0..1, of a float model on data: a pair (raw `[N, ...]`, labels `[N]`) or `Samples`.

    Raises InputError for data without labels.
    """
    if isinstance(data, tuple):
        raw, labels = arrays_of(data)
        logits = predict(model, raw, spec=spec, batch=batch, device=device)
        return float((logits.argmax(1) == np.asarray(labels)).mean())
    if len(data.shapes) != 1 or data.labels is None:
        arrays_of(data)  # says what is wrong
    right = 0
    for arrays, labels in data.blocks(_BLOCK):
        (raw,) = arrays.values()
        right += int((predict(model, raw, spec=spec, batch=batch, device=device).argmax(1) == labels).sum())
    return right / float(data.total)


def arrays_of(data: Any) -> tuple[Any, Any]:
    """Return (raw, labels) of a pair or of `snn2chip.data.Samples`; raises InputError without labels."""
    if isinstance(data, tuple):
        raw, labels = data
    else:
        arrays, labels = data.arrays()
        if len(arrays) != 1:
            raise InputError(f"{data.name}: expected one input, got {', '.join(arrays)}")
        (raw,) = arrays.values()
    if labels is None or len(raw) != len(labels):
        raise InputError("every sample needs a label")
    return raw, labels
