"""Float accuracy on pairs and on Samples, block by block, leaving the model as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from snn2chip.checkpoint import InputSpec
from snn2chip.data.samples import from_arrays
from snn2chip.errors import InputError
from snn2chip.train import evaluate, predict


class Hot(nn.Module):
    """Logits are the input itself; counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        assert not self.training
        self.calls += 1
        return x


RAW = np.array([[3, 1, 0], [0, 2, 0], [0, 1, 9], [5, 1, 2]], dtype=np.uint8)


def test_accuracy_of_three_out_of_four_whatever_the_block():
    for batch in (1, 3, 4, 100):
        assert evaluate(Hot(), (RAW, np.array([0, 1, 2, 1])), spec=InputSpec(shape=(3,)), batch=batch) == 0.75


def test_samples_of_a_data_set_and_the_normalisation():
    samples = from_arrays("mine", RAW, np.array([0, 1, 2, 0]))
    assert evaluate(Hot(), samples, spec=InputSpec(shape=(3,))) == 1.0
    shifted = InputSpec(shape=(3,), mean=(9, 0, 9))
    assert evaluate(Hot(), samples, spec=shifted) == 0.25
    logits = predict(Hot(), RAW, spec=shifted)
    assert logits.dtype == np.float32
    assert logits.tolist() == (RAW - np.array([9.0, 0, 9])).tolist()


def test_blocks_and_mode():
    model = Hot().train()
    predict(model, RAW.astype(np.float32), batch=3)
    assert model.calls == 2
    assert model.training
    predict(model.eval(), torch.from_numpy(RAW).float())
    assert not model.training


def test_labels_and_samples_are_needed():
    with pytest.raises(InputError, match="label"):
        evaluate(Hot(), (RAW, np.array([0, 1])))
    with pytest.raises(InputError, match="no samples"):
        predict(Hot(), RAW[:0])
