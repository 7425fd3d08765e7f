"""What a run costs and how good it is: counts on the integer program, the report, its tables."""
