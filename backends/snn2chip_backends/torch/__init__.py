"""The torch backend: batched and exact on CPU and CUDA."""

from snn2chip_backends.torch.backend import TorchBackend

__all__ = ["TorchBackend"]
