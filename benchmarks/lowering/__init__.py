"""Every method on every net, lowered and checked: `python -m benchmarks lowering` writes one result per row."""
