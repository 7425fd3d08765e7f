"""What can be proven of a program without running it: ranges of currents, potentials and payloads."""
