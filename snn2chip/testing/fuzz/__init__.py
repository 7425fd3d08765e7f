"""Hostile input for every door of the program: files of every format, recipes, environment variables, words.

    python -m snn2chip.testing.fuzz --inputs 100000         all doors, in child processes with bounded memory
    python -m snn2chip.testing.fuzz --doors nir,onnx --inputs 10000

Each door has sound inputs and ways to damage them that know its format. Input number i of a door follows from door,
seed and i alone. It must give a sound object or exactly one error of `snn2chip.errors` with exit code 2, in bounded
time and memory, without executing, printing or writing anything (`judge`).
"""
