"""Networks of a diffusion model, for its losses and samplers."""

import flax.linen as nn


class Networks(nn.Module):
    """Networks of a diffusion model.

    denoiser: (noisy, timesteps, train=False, **conditions) -> the output of a `Prediction`.
    """

    denoiser: nn.Module


class GuidedNetworks(Networks):
    """Networks of a diffusion model whose samples another network guides.

    guide: a worse denoiser for `autoguidance`, or a classifier (noisy, timesteps) -> logits for
      `classifier_guidance`.
    """

    guide: nn.Module
