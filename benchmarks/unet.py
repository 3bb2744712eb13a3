"""A U-Net train step beside diffusers' UNet2DModel in PyTorch, channels last, on the same cores.

    python -m benchmarks.unet [--batch 32] [--turns 6] [--threads N]

32x32 images, 64/128/128 channels, two residual blocks a level, attention at 16, float32: forward,
backward and Adam on a squared error. Both sides are timed in turns within one process, on as many
threads, and the fastest and the median turn are kept. The last row is processor time, which another
process on the same cores disturbs less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from genax.core import Loss, Phase, Stage, Task
from genax.core.compilation import compiler_options
from genax.core.step import init_state, make_step
from genax.diffusion.networks import Networks
from genax.diffusion.unet import UNet

SIZE, CHANNELS, RATE = 32, (64, 128, 128), 2e-4
Step = Callable[[], None]


def regression(nets, batch) -> Loss:
    output = nets.denoiser(batch["image"], batch["timesteps"], train=True)
    return Loss(jnp.square(output - batch["target"]))


def make_genax(batch: dict[str, np.ndarray]) -> tuple[Step, int]:
    """A function that takes one train step, and the number of parameters."""
    unet = UNet(CHANNELS[0], tuple(c // CHANNELS[0] for c in CHANNELS), 2, (16,))
    phase = Phase("denoiser", regression, ("denoiser",), optax.adam(RATE))
    task = Task(Networks(unet), [Stage([phase])])
    element = {k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for k, v in batch.items()}
    state = jax.jit(lambda: init_state(task, 0, element))()
    step = jax.jit(make_step(task), donate_argnums=0, compiler_options=compiler_options())
    device_batch = jax.device_put(batch)

    def take() -> None:
        nonlocal state
        state, metrics = step(state, device_batch)
        jax.block_until_ready((state, metrics))

    return take, sum(leaf.size for leaf in jax.tree.leaves(state.params))


def make_torch(batch: dict[str, np.ndarray]) -> tuple[Step, int]:
    """A function that takes one train step of the same architecture in PyTorch."""
    model = diffusers.UNet2DModel(
        sample_size=SIZE,
        block_out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        downsample_padding=0,
        freq_shift=1,
        flip_sin_to_cos=False,
        attention_head_dim=None,
        norm_eps=1e-6,
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    # A permuted NHWC array is an NCHW tensor that is channels-last in memory.
    image, target = (torch.from_numpy(batch[k]).permute(0, 3, 1, 2) for k in ("image", "target"))
    timesteps = torch.from_numpy(batch["timesteps"]).long()

    def take() -> None:
        (model(image, timesteps).sample - target).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return take, sum(parameter.numel() for parameter in model.parameters())


def seconds(functions: dict[str, Step], turns: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor time of each function in each turn, after one turn that does not count."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for turn in range(turns + 1):
        for name, function in functions.items():
            wall, processor = time.perf_counter(), time.process_time()
            function()
            if turn:
                spent = (time.perf_counter() - wall, time.process_time() - processor)
                times[name].append(spent)
    return times


def rows(batch_size: int = 32, turns: int = 6, threads: int | None = None):
    """(name, images/s, ratio to PyTorch)."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    rng = np.random.default_rng(0)
    shape = (batch_size, SIZE, SIZE, 3)
    batch = {
        "image": rng.standard_normal(shape, np.float32),
        "target": rng.standard_normal(shape, np.float32),
        "timesteps": rng.integers(0, 1000, batch_size).astype(np.int32),
    }
    (ours, count), (theirs, other) = make_genax(batch), make_torch(batch)
    if count != other:
        raise AssertionError(f"{count} parameters here, {other} there")
    times = seconds({"genax": ours, "torch": theirs}, turns)
    table = []
    for kind, part, pick in (
        ("fastest", 0, min),
        ("median", 0, statistics.median),
        ("processor time", 1, statistics.median),
    ):
        took = {name: pick([turn[part] for turn in values]) for name, values in times.items()}
        for name in took:
            rate, ratio = batch_size / took[name], took["torch"] / took[name]
            table.append((f"{name} images/s, {kind}", rate, ratio))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    print(f"batch {args.batch}, load {os.getloadavg()[0]:.1f}")
    for name, value, ratio in rows(args.batch, args.turns, args.threads):
        print(f"{name:<32} {value:10.2f} {ratio:7.2f}")


if __name__ == "__main__":
    main()
