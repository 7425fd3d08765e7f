"""The description of one soma that the compiled pass reads: positions in an array of int64, and its codes.

A parameter takes three positions: address of its values (0: it does nothing), distance between steps (0: the same at
all steps), and 1 where it differs from neuron to neuron (0: it repeats within every run of neurons). A current takes
seven: address, type, distance between steps, between samples (in values), bytes of a value; address of a factor (0: 1)
and whether that differs from neuron to neuron.
"""

from __future__ import annotations

NEURONS, RUN, STEPS, FIRST, LAST, SATURATES, SATURATED = range(7)
"""Neurons of a sample, neurons of a run, steps, samples `[first, last)`, whether sat24 can act, how often it did."""

FIRE, RESET, LEVELS, ENTRIES, OFFSET, SHIFT = range(7, 13)
OUT_CODE, FLUSH, SPIKES, TOTAL, LAST_V = range(13, 18)
"""Type of payloads, steps after which counts go to 64 bits, addresses of counts `[neurons]`, of the last potential."""

POTENTIALS, OUT = 18, 20
"""Address and distance between steps of potentials `[T, B, neurons]`; address and both distances of payloads."""

V_INIT, GAIN, HALF, INVERSE, SYN_LEAK, LEAK, BIAS, THETA, TOP, V_RESET, V_MIN = range(23, 56, 3)
OUT_GAIN, OUT_HALF, OUT_INVERSE, OUT_MIN, OUT_MAX = range(56, 71, 3)

SOURCES, SOURCE, FIELDS, MOST_SOURCES = 71, 72, 7, 6
TIMES = SOURCE + FIELDS * MOST_SOURCES
"""A gain without a shift that 32 bits hold; otherwise `GAIN`, `HALF` and `INVERSE` in float64."""
WINDOW, WINDOW_SHIFT = TIMES + 3, TIMES + 4
"""Address of an int32 matrix `[T, T]` that mixes the currents of the steps (0: none), and the shift behind it."""
PER_SAMPLE = TIMES + 5
"""Addresses of int32 `[B, neurons]`: steps of every sample with a payload other than 0, sum of its payloads."""
PLAIN, BEGIN, END, STATE = PER_SAMPLE + 2, PER_SAMPLE + 3, PER_SAMPLE + 4, PER_SAMPLE + 5
"""Whether the soma integrates, fires once and subtracts; steps `[begin, end)`; addresses of v, u, s `[B, neurons]` that
go on from one call to the next (0: state begins and ends with the call)."""
FIRED, OP, LENGTH = STATE + 3, STATE + 4, STATE + 5
"""How many payloads other than 0 came out; what a row of a tape is."""
SOMA, FEW_ROWS, INPUT, SUM, POOL = range(5)

ROWS, ROW_LENGTH, WIDTH, ROW_STEP, PAYLOAD, PAYLOAD_CODE, BINARY, WEIGHT, WEIGHT_CODE, EXPONENT, CURRENT = range(11)
"""A product of few rows: sizes, bytes from row to row, addresses and types, shift of the sums, address of currents."""

FRAME, FRAME_STEP, FRAME_SAMPLE = range(6, 9)
FRAMES, SAMPLES, CHANNELS, POSITIONS = range(4)
DIGITS, LOW, HIGH, IN_SPIKES, IN_TOTAL = 9, 11, 12, 13, 14
"""An input: address of frames, bytes from step to step and sample to sample; sizes (`PAYLOAD` as above); addresses of
two 7-bit digits, lowest and highest payload, addresses of counts."""

TERMS, FACTORS, SUM_LENGTH, RESULT = range(4)
"""A sum of products: addresses of both (0: 1), neurons, what comes out."""

FLOAT32, FLOAT64, INT8, INT16, INT32, INT64 = range(6)
ONCE, DIVIDE, SIGNED, LADDER, EXCESS, TABLE, RELAY, SILENT = range(8)
KEEP, SUBTRACT, VALUE, CLAMP, DROP, DELAYED = range(6)
