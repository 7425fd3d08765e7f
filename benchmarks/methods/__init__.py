"""The methods measured: `python -m benchmarks methods` trains the recipes of the zoo and writes one result per row."""
