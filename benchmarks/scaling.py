"""What a step costs as model, batch, length and devices grow, by the TPU's compiler.

    python -m benchmarks.scaling [size batch length devices]

GPT-2 with one thing changed at a time; a Markdown table each. Needs libtpu and no TPU.
"""

from __future__ import annotations

import argparse

import jax

from benchmarks.slices import COLUMNS, facts, line, row

GPT = "experiments/transformer/gpt.py:"
SWEEPS = {
    "size": [
        (f"{GPT}{size}", {"parallel.topology": "v5e:8x8"})
        for size in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
    ],
    "batch": [(f"{GPT}gpt2", {"batch_size": str(n)}) for n in (64, 256, 1024)],
    "length": [
        (f"{GPT}gpt2", {"context": str(n), "batch_size": str(2**19 // n)})
        for n in (512, 2_048, 8_192, 32_768)
    ],
    "devices": [
        (f"{GPT}gpt2", {"parallel.topology": slice_})
        for slice_ in ("v5e:2x4", "v5e:4x8", "v5e:16x16")
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweeps", nargs="*", choices=[[], *SWEEPS], metavar="SWEEP")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    for name in args.sweeps or SWEEPS:
        print(f"\n{name}\n\n{line(COLUMNS)}\n|{'---|' * len(COLUMNS)}")
        for experiment, settings in SWEEPS[name]:
            print(row(facts(experiment, settings)), flush=True)


if __name__ == "__main__":
    main()
