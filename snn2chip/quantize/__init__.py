"""From float to integer: weights, units, thresholds; every decision is recorded with its error."""
