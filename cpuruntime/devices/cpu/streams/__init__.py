"""The streams of a CPU model: planned, placed on processors, measured."""
