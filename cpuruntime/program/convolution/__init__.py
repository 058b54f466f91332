"""Lowerings of convolutions: one file a method, and the choice between them."""
