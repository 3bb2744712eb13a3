"""The networks of a diffusion model, as losses and samplers find them."""

import flax.linen as nn


class Networks(nn.Module):
    """denoiser(noisy, timesteps, train=False, **conditions): the output of a `Prediction`."""

    denoiser: nn.Module
