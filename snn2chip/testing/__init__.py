"""Shipped tests: worked examples, the conformance suite, random programs, a second witness, seeded faults.

`conformance.run_conformance(backend)` says whether a backend is right; `programs` makes random programs
(Hypothesis strategies, or from plain seeds); `witness` is a scalar re-implementation of the integer machine;
`faults` are deliberate mistakes that the suite has to find.
"""
