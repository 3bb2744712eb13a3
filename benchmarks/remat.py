"""What each remat policy costs and saves: memory of a step on TPUs against FLOPs done again.

    python -m benchmarks.remat [EXPERIMENT:VARIANT ...] [--batch-size N] [--topology CHIP:SHAPE]

One row of a Markdown table for each policy, by the TPU's compiler: needs libtpu and no TPU.
"""

from __future__ import annotations

import argparse

import jax

from genax.ahead.programs import topology
from genax.cli.compile import describe
from genax.core.errors import GenaxError
from genax.front.experiments import configure, load
from genax.nn.rematerialise import OFFLOAD

SIZES = ("experiments/transformer/gpt.py:gpt2-xl", "experiments/transformer/llama.py:llama3-8b")
POLICIES = ("none", "dots_saveable", "dots_with_no_batch_dims_saveable", OFFLOAD, "full")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="EXPERIMENT:VARIANT", default=SIZES)
    parser.add_argument("--batch-size", type=int, metavar="N")
    parser.add_argument("--topology", metavar="CHIP:SHAPE")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    print("| size | policy | temporaries, GiB | fits | FLOPs, over the model's | GB moved |")
    print("|---|---|---|---|---|---|")
    for name in args.names:
        for policy in POLICIES:
            loaded = load(name)
            settings = {"remat": policy}
            if args.batch_size:
                settings["batch_size"] = str(args.batch_size)
            config = configure(loaded, settings)
            devices = topology(args.topology or config.parallel.topology)
            try:
                found = describe(loaded, config, devices)
            except GenaxError as error:  # the host's memory
                print(f"| {name.split('/')[-1]} | {policy} | {error} | no | | |", flush=True)
                continue
            compiled, more = found.compiled, found.compiled.flops / found.model_flops
            memory = f"needs {compiled.wanted / 2**30:.1f} in all"
            moved = "" if compiled.costs is None else f"{compiled.costs.memory / 1e9:,.0f}"
            if compiled.memory is not None:
                memory = f"{compiled.memory.temporaries / 2**30:.2f}"
            fits = "yes" if compiled.fits else "no"
            cells = (name.split("/")[-1], policy, memory, fits, f"{more:.2f}", moved)
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
