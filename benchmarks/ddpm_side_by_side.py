"""The comparison's DDPM in diffusers and PyTorch: the same data, batches, optimizer and averages.

    python -m benchmarks.ddpm_side_by_side OUT.npz [--steps 6000] [--samples 10000] [--seed 0]

It trains diffusers' UNet2DModel as `experiments/diffusion/ddpm.py:comparison` trains genax's U-Net,
on the same batches in the same order, and writes samples of the averaged weights (uint8 [n, h,
w, c], DDIM with the experiment's steps and eta), their scores as JSON beside them and a picture of
the first 64. On a GPU the model is compiled.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from functools import partial
from pathlib import Path

import diffusers
import jax
import numpy as np
import torch

from genax.core.data import Shard
from genax.data import ImageData
from genax.evaluation.extractors import features_of
from genax.evaluation.fidelity_scores import fidelity_scores
from genax.evaluation.image_classifier import image_classifier
from genax.evaluation.inception import inception
from genax.evaluation.pictures import image_grid
from genax.front.experiments import configure, load
from genax.nn.ema import ema_warmup
from genax.nn.optimizers import warmup_constant
from genax.settings.files import to_json


def make_model(config) -> torch.nn.Module:
    """The U-Net of the settings, whose attention is at one resolution, in diffusers."""
    unet = config.unet
    sizes = [config.size // 2**level for level in range(len(unet.multipliers))]
    attention = ["Attn" if size in unet.attention_resolutions else "" for size in sizes]
    return diffusers.UNet2DModel(
        sample_size=config.size,
        in_channels=1,
        out_channels=1,
        layers_per_block=unet.num_res_blocks,
        block_out_channels=[unet.channels * multiplier for multiplier in unet.multipliers],
        down_block_types=[f"{kind}DownBlock2D" for kind in attention],
        up_block_types=[f"{kind}UpBlock2D" for kind in reversed(attention)],
        norm_num_groups=unet.num_groups,
        downsample_padding=0,
        freq_shift=1,
        flip_sin_to_cos=False,
        attention_head_dim=None,
        norm_eps=1e-6,
        dropout=unet.dropout,
    )


def train(config, data: ImageData, device: str) -> torch.nn.Module:
    """The averaged model after the steps of the settings."""
    model = make_model(config).to(device=device, memory_format=torch.channels_last)
    print(sum(parameter.numel() for parameter in model.parameters()), "parameters")
    average = copy.deepcopy(model)
    fast = torch.compile(model) if device == "cuda" else model
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    scheduler = diffusers.DDPMScheduler(beta_schedule="linear")
    steps = np.arange(config.steps)
    decays = np.asarray(ema_warmup(config.ema_decay)(steps), np.float64)
    rates = np.asarray(warmup_constant(config.learning_rate, config.warmup_steps)(steps))
    batches = data.train(config.batch_size, config.seed, Shard())
    began = time.perf_counter()
    for step in range(config.steps):
        images = torch.from_numpy(np.array(next(batches)["image"])).permute(0, 3, 1, 2).to(device)
        noise = torch.randn_like(images)
        timesteps = torch.randint(0, 1000, (len(images),), device=device)
        noisy = scheduler.add_noise(images, noise, timesteps)
        loss = (fast(noisy, timesteps).sample - noise).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        for group in optimizer.param_groups:
            group["lr"] = float(rates[step])
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(average.parameters()), list(model.parameters()), 1 - decays[step]
            )
        if (step + 1) % 500 == 0:
            spent = time.perf_counter() - began
            print(f"step {step + 1}: loss {loss.item():.4f}, {spent:.0f} s", flush=True)
    return average


@torch.no_grad()
def draw(model: torch.nn.Module, config, count: int, device: str) -> np.ndarray:
    """Samples by DDIM, uint8."""
    scheduler = diffusers.DDIMScheduler(beta_schedule="linear", clip_sample=True)
    scheduler.set_timesteps(config.ddim_steps)
    found = []
    for start in range(0, count, 1000):
        shape = (min(1000, count - start), 1, config.size, config.size)
        x = torch.randn(shape, device=device)
        for timestep in scheduler.timesteps:
            output = model(x, timestep).sample
            x = scheduler.step(
                output, timestep, x, eta=config.ddim_eta, use_clipped_model_output=True
            ).prev_sample
        pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        found.append(pixels.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(found)


def scored(images: np.ndarray, train: ImageData, test: ImageData) -> dict[str, float]:
    """Scores of samples by both extractors, as `genax.evaluation.fidelity` has them."""
    scores = {}
    for extractor in (image_classifier(train, test), inception()):
        arrays = extractor.given(None)
        compute = jax.jit(extractor.features)
        found = [
            np.asarray(compute(arrays, part.astype(np.float32)))
            for part in np.array_split(images, math.ceil(len(images) / 500))
        ]
        real = (features_of(data, extractor, arrays, len(images)) for data in (test, train))
        new = fidelity_scores(np.concatenate(found), *real)
        scores |= {f"{extractor.name}/{name}": score for name, score in new.items()}
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    definition = load("experiments/diffusion/ddpm.py:comparison")
    config = configure(definition, {} if args.steps is None else {"steps": str(args.steps)})
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = partial(ImageData, config.dataset, size=config.size)
    data, test = images(split=config.train_split), images(split=config.test_split)
    samples = draw(train(config, data, device), config, args.samples, device)
    out = Path(args.out)
    np.savez_compressed(out, images=samples)
    image_grid(samples[:64] / 127.5 - 1).save(out.with_suffix(".png"))
    scores = scored(samples, data, test)
    out.with_suffix(".json").write_text(to_json(scores))
    print(to_json(scores))


if __name__ == "__main__":
    main()
