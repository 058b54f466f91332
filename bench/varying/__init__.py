"""The parts of bench/dynamic.py: models with shapes drawn for them, the process of an engine, the report."""
