"""The `cpuruntime` command: one file for each sub-command, built on the public names only."""
