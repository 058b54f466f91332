"""`cpuruntime compare` and `cpuruntime history`: two installations, or two configurations of one, on a suite of models.

Each side infers in processes of its own; short slices alternate at random, and the ratio of two neighbouring slices is
what counts. `schedule` measures, `verdicts` judges, `documents` and `page` write, `trend` reads a folder of runs.
"""
