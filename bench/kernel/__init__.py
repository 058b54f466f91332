"""What bench/kernels.py is made of."""
