"""Runs ONNX's backend test suite, all that the installed onnx package has, beside ONNX Runtime and OpenVINO.

    python bench/coverage.py --report bench/report --json coverage.json
    python bench/coverage.py --engine cpuruntime --only "resize|upsample" --cases

Says of each case whether cpuruntime passes by kernels alone, with a fallback, or how it fails, and why. Cases run in
processes with a time limit, so that a crash or a hang is a result, too. All engines use one thread and float32.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from suite.command import main

    sys.exit(main())

# Numba imports the package `coverage` where it is installed, and this folder may come first on the path.
raise ImportError("bench/coverage.py is a command, not a module")
