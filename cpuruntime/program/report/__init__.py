"""What the steps of a program take at least, and what they took."""
