"""Error of solvers against their evaluations of the network, on a mixture with known score.

    python -m benchmarks.solver_order [--out docs/solver_order.png]

The table and the mixture are those of tests/diffusion/test_order.py, in float64. A trajectory stops
at the smallest sigma. Lines are labelled with the orders that their last points show. The picture
needs the extra `plots`.
"""

from __future__ import annotations

import argparse

import jax
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from tests.diffusion.test_order import LARGEST, ORDERS, SMALLEST, solved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="docs/solver_order.png")
    args = parser.parse_args()

    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    styles = ["-o", "--s", "-.^", ":v", "-D", "--P"]
    colors = plt.colormaps["tab10"].colors
    for place, (name, row) in enumerate(ORDERS.items()):
        steps = [row.steps[0] * 2**power // 8 for power in range(6)]
        errors, evaluations = np.array([solved(row, num_steps) for num_steps in steps]).T
        jax.clear_caches()
        found = np.log2(errors[-2] / errors[-1])
        label = f"{name}: {found:.2f} ({row.order})"
        print(f"{label:<32}", " ".join(f"{error:.1e}" for error in errors), flush=True)
        style, color = styles[place // len(colors) % len(styles)], colors[place % len(colors)]
        axes.loglog(evaluations, errors, style, color=color, label=label, markersize=3, lw=1)
    axes.set_xlabel("evaluations of the network")
    axes.set_ylabel("mean error of a sample")
    axes.set_title(
        f"Mixture of three Gaussians, sigma from {LARGEST:g} to {SMALLEST:g}: "
        "solver, order found (expected)"
    )
    axes.grid(which="both", alpha=0.2)
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(args.out, dpi=120)


if __name__ == "__main__":
    main()
