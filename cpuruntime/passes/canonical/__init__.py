"""Rewrites that leave one form of each operator."""
