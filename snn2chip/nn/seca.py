"""SECA: channel attention on input currents, weights shared by all steps, evaluated at every step.

    SECA(X) = X * sigmoid( Conv1d_K( GAP(X) ) )      GAP: mean over space, Conv1d along the channels, 1 -> 1, K odd

Form I attends the current after a synapse, X = BN(Conv(s)); form II the sum of that and the input current of the
neuron in front of it. K + 1 parameters. K = 5 is the released choice; `adaptive_kernel` is ECA-Net's rule

    K = the odd number at or above (log2(C) + 1)/2, truncated

Lowers to: the mean as an exact sum, the convolution as a linear map along the channels, the sigmoid as a table of 256
entries, and a product of payloads; so only to targets that multiply two messages.
Sources: Hao et al. (EM-PF, arXiv 2410.07547); Wang et al. CVPR 2020 (ECA-Net).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from snn2chip.errors import InputError


def adaptive_kernel(channels: int) -> int:
    """Return the odd kernel ECA-Net gives this number of channels."""
    size = int((math.log2(channels) + 1) / 2)
    return size if size % 2 else size + 1


class SECA(nn.Module):
    """Channel attention of currents `[B,C,H,W]` or `[T,B,C,H,W]`, the same shape out."""

    def __init__(self, kernel: int = 5) -> None:
        super().__init__()
        if not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0:
            raise InputError(f"SECA: kernel={kernel!r}, expected an odd integer >= 1")
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2)

    def channel_attention(self) -> tuple[Tensor, Tensor]:
        """Return the kernel `[K]` and the bias `[1]`: what the attention lowers from."""
        bias = self.conv.bias
        assert bias is not None
        return self.conv.weight.flatten(), bias

    def score(self, x: Tensor) -> Tensor:
        """Return sigmoid(Conv1d(GAP(x))), `[..., C, 1, 1]`, in (0, 1)."""
        if x.dim() not in (4, 5):
            raise InputError(f"SECA: expected [B,C,H,W] or [T,B,C,H,W], got {list(x.shape)}")
        pooled = x.mean((-2, -1))
        return torch.sigmoid(self.conv(pooled.reshape(-1, 1, x.shape[-3]))).view(*pooled.shape, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x times its score."""
        return x * self.score(x)
