"""What runs beside lava-nc alone: own processes, the network builder, the guarded run. Imports nothing of snn2chip.

An emitted package carries a copy of this folder.
"""
