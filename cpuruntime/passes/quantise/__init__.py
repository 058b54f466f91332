"""Rewrites that keep the integers of quantised models: operators on bytes for kernels of the CPU."""
