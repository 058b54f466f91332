"""Models under a latency target: which inferences are admitted, by which streams, in which batches."""
