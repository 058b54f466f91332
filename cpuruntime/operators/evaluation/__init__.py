"""What operators compute, evaluated on arrays: with NumPy as the specification says, each family in a file."""
