"""Elementary functions on vectors and on single values."""
