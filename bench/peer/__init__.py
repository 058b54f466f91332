"""The parts of bench/peers.py: engines, the process each runs in, models, ratios and the report."""
