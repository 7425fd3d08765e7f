"""Neuron programs: a soma as a listing of add, multiply, shift, compare and select steps with proven bit widths."""
