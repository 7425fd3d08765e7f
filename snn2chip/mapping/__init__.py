"""What a chip can hold and do, as data, and what of a program it cannot."""
