"""Memory that the loss over a large vocabulary takes, with all logits at once and in chunks.

    python -m benchmarks.loss_memory [--chunk 8192] [--dtype bfloat16]

Value and gradients of the cross-entropy at LLaMA 3's vocabulary of 128,256, width 4096, as XLA
plans it when it compiles: nothing is allocated. Temporaries and results, of which the gradient of
the table is 1.05 GB in bfloat16. With libtpu installed, by the compiler of a TPU v5e too.
"""

from __future__ import annotations

import argparse
import importlib.util

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from genax.transformer.cross_entropy import chunked_cross_entropy, cross_entropy

VOCAB, WIDTH, TOKENS = 128_256, 4096, (2048, 8192)


def loss(hidden, table, targets, chunk: int | None = None):
    """The mean over tokens."""
    if chunk is None:
        return cross_entropy(hidden @ table.T, targets).mean()
    return chunked_cross_entropy(hidden, table, targets, chunk)[0].mean()


def planned(tokens: int, chunk: int | None, device: jax.Device, dtype: str) -> tuple[float, float]:
    """GB of temporaries and of results."""
    place = SingleDeviceSharding(device)

    def array(shape, dtype):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=place)

    hidden, table = array((tokens, WIDTH), dtype), array((VOCAB, WIDTH), dtype)
    compute = jax.jit(jax.value_and_grad(loss, (0, 1)), static_argnums=3)
    compiled = compute.lower(hidden, table, array((tokens,), jnp.int32), chunk).compile()
    memory = compiled.memory_analysis()
    return memory.temp_size_in_bytes / 1e9, memory.output_size_in_bytes / 1e9


def devices() -> dict[str, jax.Device]:
    """The compilers at hand."""
    found = {jax.default_backend(): jax.devices()[0]}
    if importlib.util.find_spec("libtpu") and "tpu" not in found:
        topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
        found["tpu v5e"] = topology.devices[0]
    return found


def rows(chunk: int = 8192, dtype: str = "bfloat16"):
    """(name, GB of temporaries, of results, of both)."""
    for platform, device in devices().items():
        for tokens in TOKENS:
            for name, size in (("all logits", None), (f"chunks of {chunk}", chunk)):
                temporaries, results = planned(tokens, size, device, dtype)
                total = temporaries + results
                yield f"{platform}, {tokens} tokens, {name}", temporaries, results, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunk", type=int, default=8192)
    parser.add_argument("--dtype", default="bfloat16")
    args = parser.parse_args()
    print("GB: temporaries, results, both")
    for name, *values in rows(args.chunk, args.dtype):
        print(f"{name:<40} " + " ".join(f"{value:7.2f}" for value in values), flush=True)


if __name__ == "__main__":
    main()
