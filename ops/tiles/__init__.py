"""Register tiles, loop nests, and what they share."""
