"""The arithmetic of the layouts `layer` and `fused` on a batch of samples; NumPy and SciPy alone, no Lava.

Integers are held in float32, float64 or int64, whichever the plan has proven to hold every value and every partial
sum exactly. Shares no code with the processes of the layout `stock`, which check it.
"""
