"""From nodes to steps: one file a family of operators."""
