"""PTB-XL: the source, and its download."""
