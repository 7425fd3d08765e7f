"""The methods on one GPU: full-size nets trained in minutes, in slices of a few minutes each."""
