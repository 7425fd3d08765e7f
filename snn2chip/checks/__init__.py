"""Proofs: backend equality with the first divergence, golden vectors, outside traces."""
