"""Rewrites that remove or shorten work."""
