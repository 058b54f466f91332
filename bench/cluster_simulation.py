"""Simulates a large cluster under load, by the scheduling code of device RAY: its tail, goodput and fairness.

    python bench/cluster_simulation.py                       # a million requests a second for a minute, on 1,000 nodes
    python bench/cluster_simulation.py --scale 0.1 --seconds 1

The first row is without failures, the second with a share of the nodes failing at random moments. What is assumed is
written in cpuruntime/devices/ray/simulation.py. Both rows take about 15 minutes.
"""

from __future__ import annotations

import argparse
import sys
import time

from cpuruntime.devices.ray.simulation import Scenario, simulate

MS = 1_000_000
NODES, DRIVERS, RATE = 1000, 125, 8000.0
"""At scale 1; the rate is that of each driver."""

STREAMS, SERVICE, TRIP, TARGET = 8, 4 * MS, 2 * MS, 50 * MS


def row(scale: float, seconds: float, failing: float) -> str:
    """What is seen in such a cluster, as a row of a table in Markdown."""
    nodes, rates = max(1, round(scale * NODES)), [RATE] * max(1, round(scale * DRIVERS))
    began = time.process_time()
    seen = simulate(Scenario(nodes, STREAMS, SERVICE, TRIP, rates, seconds, failing, TARGET))
    tail = " | ".join(f"{seen.quantile(part) / MS:.1f} ms" for part in (0.5, 0.99, 0.999, 0.9999))
    return (
        f"| {failing:.0%} | {seen.started:,} | {tail} | {seen.longest / MS:,.0f} ms | {seen.goodput:.4%} | "
        f"{seen.fairness(rates):.4f} | {seen.started - sum(seen.served):,} | {seen.retries:,} | {seen.calls:,} | "
        f"{(time.process_time() - began) / seen.started * 1e6:.1f} us |"
    )


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--scale", type=float, default=1.0, help=f"1: {NODES} nodes and {DRIVERS} drivers")
    options.add_argument("--seconds", type=float, default=60.0, help="of simulated time")
    options.add_argument("--failing", type=float, nargs="+", default=[0.0, 0.01], help="shares of the nodes")
    return options


def main() -> int:
    """The command."""
    options = parser().parse_args()
    print("| nodes failing | requests | p50 | p99 | p99.9 | p99.99 | longest | within 50 ms | fairness | lost | "
          "run again | calls | each took |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for failing in options.failing:
        print(row(options.scale, options.seconds, failing), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
