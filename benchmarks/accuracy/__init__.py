"""Integers against float on whole test sets: what quantization costs."""
