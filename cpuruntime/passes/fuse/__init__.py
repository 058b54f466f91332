"""Rewrites that merge several nodes into one that a kernel of the CPU computes."""
