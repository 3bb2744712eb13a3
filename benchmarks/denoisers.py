"""Denoisers beside diffusers' in PyTorch on the same cores, or on the same GPU.

    python -m benchmarks.denoisers [unet dit ...] [--turns N] [--threads N] [--dtype bfloat16]

For each network: images per second of a train step (squared error, forward, backward, Adam) and of
DDIM with 50 steps, and the seconds that compiling the sampler takes. Both sides are timed in
turns within one process, and the fastest and the median turn are kept. Processor time is what
another process on the same cores disturbs less. PyTorch is channels last and, on a GPU or
with --compile, compiled. With --dtype bfloat16 it runs under autocast, with a fused optimizer.

unet: 32x32 images, 64/128/128 channels, two residual blocks a level, attention at 16.
dit: DiT-S/4 on 32x32x4 latents with labels.
cifar10: DDPM's network of 35.7 M parameters. dit-b: DiT-B/2. Both are for a GPU.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import diffusers
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from benchmarks.turns import Step, rates
from genax.core import Loss, Phase, Stage, Task
from genax.core.compilation import compiler_options
from genax.core.step import init_state, make_step
from genax.diffusion.dit import DiT
from genax.diffusion.networks import Networks
from genax.diffusion.process import DiscreteProcess
from genax.diffusion.sampling import sample
from genax.diffusion.schedules import linear_betas
from genax.diffusion.solvers import ddim
from genax.diffusion.spacings import leading
from genax.diffusion.unet import PRESETS, UNet

RATE, DDIM_STEPS = 2e-4, 50


@dataclass(frozen=True)
class Case:
    """A network on both sides, and its sizes.

    steps: train steps of one turn.
    """

    ours: Callable[[Any], nn.Module]
    theirs: Callable[[], torch.nn.Module]
    channels: int
    batch: int
    samples: int
    labels: bool = False
    steps: int = 1


def torch_unet(channels: tuple[int, ...], **more: Any) -> torch.nn.Module:
    """The network of DDPM, with attention at the second resolution."""
    attention = ["", "Attn", *([""] * (len(channels) - 2))]
    return diffusers.UNet2DModel(
        sample_size=32,
        block_out_channels=channels,
        down_block_types=[f"{kind}DownBlock2D" for kind in attention],
        up_block_types=[f"{kind}UpBlock2D" for kind in reversed(attention)],
        downsample_padding=0,
        freq_shift=1,
        flip_sin_to_cos=False,
        attention_head_dim=None,
        norm_eps=1e-6,
        **more,
    )


def torch_dit(heads: int, width: int, layers: int, patch: int) -> torch.nn.Module:
    return diffusers.DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=width // heads,
        in_channels=4,
        out_channels=4,
        num_layers=layers,
        sample_size=32,
        patch_size=patch,
        num_embeds_ada_norm=1000,
    )


def dit(heads: int, width: int, layers: int, patch: int) -> Callable[[Any], nn.Module]:
    return lambda dtype: DiT(
        image_size=32,
        patch_size=patch,
        hidden_size=width,
        num_layers=layers,
        num_heads=heads,
        num_classes=1000,
        null_class=True,
        dtype=dtype,
    )


CASES = {
    "unet": Case(
        lambda dtype: UNet(64, (1, 2, 2), 2, (16,), dtype=dtype),
        lambda: torch_unet((64, 128, 128)),
        channels=3,
        batch=32,
        samples=4,
    ),
    "dit": Case(dit(6, 384, 12, 4), lambda: torch_dit(6, 384, 12, 4), 4, 32, 8, labels=True),
    "cifar10": Case(
        lambda dtype: UNet(**{**PRESETS["cifar10"], "dropout": 0.0}, dtype=dtype),
        lambda: torch_unet((128, 256, 256, 256)),
        channels=3,
        batch=128,
        samples=128,
        steps=10,
    ),
    "dit-b": Case(
        dit(12, 768, 12, 2), lambda: torch_dit(12, 768, 12, 2), 4, 256, 64, labels=True, steps=10
    ),
}


def regression(nets: nn.Module, batch: Any) -> Loss:
    label = {"label": batch["label"]} if "label" in batch else {}
    output = nets.denoiser(batch["image"], batch["timesteps"], train=True, **label)
    return Loss(jnp.square(output - batch["target"]))


def make_genax(case: Case, batch: dict[str, np.ndarray], dtype: Any) -> tuple[Step, Step, float]:
    """Functions that take train steps and that draw samples, and the sampler's compile time."""
    phase = Phase("denoiser", regression, ("denoiser",), optax.adam(RATE))
    task = Task(Networks(case.ours(dtype)), [Stage([phase])])
    element = {k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for k, v in batch.items()}
    state = jax.jit(lambda: init_state(task, 0, element))()
    step = jax.jit(make_step(task), donate_argnums=0, compiler_options=compiler_options())
    placed = jax.device_put(batch)

    def take() -> None:
        nonlocal state
        for _ in range(case.steps):
            state, metrics = step(state, placed)
        jax.block_until_ready((state, metrics))

    process = DiscreteProcess(linear_betas(1000))
    solver = ddim(process, leading(1000, DDIM_STEPS))
    given = {"index": np.arange(case.samples)}
    if case.labels:
        given["label"] = np.arange(case.samples, dtype=np.int32)

    def draw(params: Any, key: jax.Array) -> jax.Array:
        def condition(nets: Any, batch: Any) -> dict[str, Any]:
            return {"label": batch["label"]} if case.labels else {}

        return task.networks.apply(
            {"params": params},
            method=lambda nets: sample(
                nets, given, solver, process, batch["image"].shape[1:], condition=condition
            ),
            rngs={"example": key},
        )

    # Averaged weights, as a run has them, so that the step may reuse the memory of its own.
    params = jax.tree.map(jnp.copy, state.params)
    began = time.perf_counter()
    compiled = jax.jit(draw, compiler_options=compiler_options()).lower(params, jax.random.key(0))
    compiled = compiled.compile()
    compiling = time.perf_counter() - began
    return take, lambda: jax.block_until_ready(compiled(params, jax.random.key(1))), compiling


def make_torch(
    case: Case, batch: dict[str, np.ndarray], bfloat16: bool, device: str, compiled: bool
) -> tuple[Step, Step]:
    """Functions that take train steps of the same network in PyTorch, and that draw samples."""
    model = case.theirs().to(device=device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=device == "cuda" or None)
    if compiled:
        model = torch.compile(model)
    # A permuted NHWC array is an NCHW tensor that is channels-last in memory.
    image, target = (
        torch.from_numpy(batch[k]).permute(0, 3, 1, 2).to(device) for k in ("image", "target")
    )
    timesteps = torch.from_numpy(batch["timesteps"]).long().to(device)
    label = (
        {"class_labels": torch.from_numpy(batch["label"]).long().to(device)} if case.labels else {}
    )

    def precision() -> Any:
        return torch.autocast(device, torch.bfloat16) if bfloat16 else nullcontext()

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def take() -> None:
        for _ in range(case.steps):
            with precision():
                output = model(image, timestep=timesteps, **label).sample
            (output.float() - target).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        wait()

    scheduler = diffusers.DDIMScheduler(beta_schedule="linear")
    scheduler.set_timesteps(DDIM_STEPS)

    @torch.no_grad()
    def draw() -> None:
        x = torch.randn(case.samples, case.channels, 32, 32, device=device)
        x = x.to(memory_format=torch.channels_last)
        classes = {"class_labels": torch.arange(case.samples, device=device)} if case.labels else {}
        for timestep in scheduler.timesteps:
            with precision():
                times = timestep.to(device).expand(case.samples)
                output = model(x, timestep=times, **classes).sample
            x = scheduler.step(output.float(), timestep, x).prev_sample
        wait()

    return take, draw


def wait_for(path: str | None, *functions: Step) -> None:
    """Call what is still to be compiled, and wait until a file exists: the GPU is then free."""
    if path is not None:
        for function in functions:
            function()
        while not os.path.exists(path):
            time.sleep(0.5)


def rows(name: str, args: argparse.Namespace) -> Iterator[tuple[str, float, float, float]]:
    """(what, genax's images/s, PyTorch's, ratio)."""
    case, rng = CASES[name], np.random.default_rng(0)
    shape = (case.batch, 32, 32, case.channels)
    batch = {
        "image": rng.standard_normal(shape, np.float32),
        "target": rng.standard_normal(shape, np.float32),
        "timesteps": rng.integers(0, 1000, case.batch).astype(np.int32),
    }
    if case.labels:
        batch["label"] = rng.integers(0, 1000, case.batch).astype(np.int32)
    gpu = jax.default_backend() == "gpu"
    step, draw, compiling = make_genax(case, batch, jnp.dtype(args.dtype))
    other_step, other_draw = make_torch(
        case, batch, args.dtype == "bfloat16", "cuda" if gpu else "cpu", gpu or args.compile
    )
    wait_for(args.after, step, other_step, draw, other_draw)
    for what, count, ours, theirs in (
        ("train step", case.batch * case.steps, step, other_step),
        ("50-step DDIM", case.samples, draw, other_draw),
    ):
        sides = {"genax": ours, "torch": theirs}
        for kind, found in rates(sides, args.turns, count):
            yield f"{name} {what}, {kind}", *found.values(), found["genax"] / found["torch"]
    yield f"{name} sampler compiled in, s", compiling, float("nan"), float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(CASES)}")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--after", metavar="FILE", help="compile, but time only once FILE exists")
    parser.add_argument("--compile", action="store_true", help="PyTorch compiled on a CPU too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or len(os.sched_getaffinity(0)))
    print(f"{jax.devices()[0].device_kind}, {args.dtype}, load {os.getloadavg()[0]:.1f}")
    for name in args.networks or ("unet", "dit"):
        for what, ours, theirs, ratio in rows(name, args):
            print(f"{what:<40} {ours:10.2f} {theirs:10.2f} {ratio:7.2f}", flush=True)


if __name__ == "__main__":
    main()
