"""Compiled passes over memory (numba): somas, inputs, few rows of a product, pools, sums, and tapes of these.

`entries` compiles them and keeps them on disk; `snn2chip_backends.torch.fused` does without when numba is missing.
"""
