"""The definition: NumPy int64, one obvious loop, slow on purpose."""

from snn2chip_backends.reference.backend import ReferenceBackend

__all__ = ["ReferenceBackend"]
