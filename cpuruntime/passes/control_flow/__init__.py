"""Rewrites of control flow, and what makes shapes known before the other passes run."""
