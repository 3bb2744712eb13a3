"""A VQ-VAE of images, its objective, pictures and scores, put together."""

from __future__ import annotations

from functools import partial
from typing import Any

import optax
from ml_collections import ConfigDict

from genax.core import Evaluator, Experiment, Phase, Sampler, Stage, Task
from genax.evaluation.examples import first_images
from genax.evaluation.pictures import image_grid
from genax.vae.codebook import COLLECTION
from genax.vae.quantised import code_usage, reconstruct_images, uniform_elbo, vq_loss
from genax.vae.tasks import images
from genax.vae.vq_settings import autoencoder_of, said_of
from genax.vae.vq_vae import Networks


def vq_autoencoder(config: ConfigDict, data: Any = None) -> Experiment:
    """Return the experiment that trains a VQ-VAE by Adam with the settings of `vq_settings`.

    It has the settings "commitment" and "codebook" besides, see `vq_loss`.

    data: see `given_or`; None is what the settings name.
    """
    train, test = images(config, data)
    autoencoder = autoencoder_of(config, train)
    loss = partial(vq_loss, commitment=config.commitment, codebook=config.codebook)
    said = said_of(config, "lower bound of log p(x), all codes equally likely")
    scores = {
        "elbo": Evaluator(uniform_elbo, says=said),
        "codes": code_usage(config.num_codes),
    }
    shown = partial(first_images, train if test is None else test)
    task = Task(
        Networks(autoencoder),
        [Stage([Phase("autoencoder", loss, ("autoencoder",), optax.adam(config.learning_rate))])],
        samplers={"reconstruction": Sampler(reconstruct_images, image_grid, shown)},
        evaluators={} if test is None else scores,
        summed=(COLLECTION,),
    )
    return Experiment(task, train, test)
