"""`python -m cpuruntime` is the `cpuruntime` command."""

import sys

from cpuruntime.cli.main import main

sys.exit(main())
