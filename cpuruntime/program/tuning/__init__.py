"""Choices between kernels: candidates with estimates, and trials that measure close ones."""
