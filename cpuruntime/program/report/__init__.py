"""Reports on the steps of a program: their work, and the least time that the machine needs for it."""
