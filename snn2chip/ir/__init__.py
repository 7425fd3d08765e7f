"""The two intermediate forms: the integer Program and what it means, and the float LayerGraph."""
