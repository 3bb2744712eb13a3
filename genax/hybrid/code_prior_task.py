"""A prior over the codes of a trained autoencoder, put together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from genax.core import Experiment
from genax.data.encoded import latents_of
from genax.data.latents import Encoder
from genax.hybrid.code_prior import (
    Networks,
    autoencode,
    code_elbo,
    code_loss,
    codes_element,
    codes_from,
    draw_images,
)
from genax.transformer.grid_decoder import grid_decoder
from genax.transformer.tasks.grids import grid_task
from genax.vae.tasks import images
from genax.vae.vq_settings import autoencoder_of, said_of
from genax.vae.vq_vae import STRIDE

# (run, network, made=) -> what encodes: `genax.front.trained.TrainedNetwork`.
MakeEncoder = Callable[..., Encoder]


def code_prior(config: ConfigDict, data: Any, encoder: MakeEncoder) -> Experiment:
    """Return the experiment that fits a decoder to the codes of the run `config.pretrained`.

    config: settings of `genax.vae.vq_settings`, as that run has them, and of `grid_task`.
    data: images, see `given_or`; None is what the settings name.
    encoder: makes what encodes them, since chapters open no run.
    """
    train, test = images(config, data)
    autoencoder = autoencoder_of(config, train)
    shape = train.element["image"].shape
    grid = (shape[0] // STRIDE, shape[1] // STRIDE)
    task = grid_task(
        config,
        Networks(
            grid_decoder(config, grid[0] * grid[1], config.num_codes, config.num_classes),
            autoencoder,
        ),
        code_loss,
        partial(draw_images, grid=grid),
        {} if test is None else {"elbo": code_elbo},
        said_of(config),
        fixed=("autoencoder",),
        given=partial(autoencode, shape=shape),
    )
    made = partial(codes_element, grid)
    codes = latents_of(train, encoder(config.pretrained, "autoencoder.encode", made=made))
    return Experiment(task, codes, test, codes_from(config.pretrained))
