"""Stages: what of a model can be planned at once, since all its shapes are known, and what waits for data."""
