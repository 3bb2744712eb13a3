"""Kingma & Welling 2014, Auto-Encoding Variational Bayes (arXiv:1312.6114).

A variational autoencoder with one hidden layer on either side and a Bernoulli likelihood.

    genax train experiments/vae/vae.py --workdir runs/vae

Variant cpu on two CPU cores: 58 seconds, compilation and evaluation included. Test ELBO -104.7
nats, importance-weighted bound with 50 samples -100.5 nats.
"""

from functools import partial

import jax.numpy as jnp
import optax
from flax import linen as nn

from genax.core import Evaluator, Experiment, Phase, Sampler, Stage, Task
from genax.data import ImageData, given_or
from genax.evaluation.examples import first_images
from genax.evaluation.pictures import check_pictures, image_grid
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.settings import Variant, from_config
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, Range
from genax.vae.autoencoders import DIGITS, MNIST, PYTORCH_EXAMPLE, MLPSize
from genax.vae.objectives import elbo, elbo_loss, importance_weighted_bound
from genax.vae.sampling import reconstruct, sample_prior

DEFAULTS = {
    **MNIST.settings,
    "dataset": "mnist",
    # Height and width of the images; 0 is as they are stored.
    "size": 0,
    # Whether the optimizer is Adagrad, as in the paper, or Adam.
    "adagrad": False,
    "weight_decay": 0.0,
    "learning_rate": 1e-3,
    # The weight of the divergence from the prior: see `elbo_loss`.
    "beta": 1.0,
    # Latents that are drawn for an image, in training and in the importance-weighted bound.
    "samples": 1,
    "importance_samples": 50,
    "batch_size": 100,
    "steps": 10_000,
    "steps_per_call": 25,
    "log_every": 100,
    "checkpoint_every": 5_000,
    "sample_every": 5_000,
}
EMBEDDED = {"dataset": "digits", "batch_size": 50, "steps": 3_000, "steps_per_call": 10}
SLICE = {"topology": "v5e:2x2"}
PAPER = {
    "adagrad": True,
    # The prior N(0, I) of the weights, as a share of each of 60,000 images.
    "weight_decay": 1 / 60_000,
    "learning_rate": 0.02,
    "steps": 1_000_000,
    "checkpoint_every": 50_000,
    "sample_every": 50_000,
    "eval_every": 50_000,
    "parallel": SLICE,
}
PYTORCH = {
    **PYTORCH_EXAMPLE.settings,
    "batch_size": 128,
    "steps": 4_690,
    "steps_per_call": 10,
    "checkpoint_every": 1_000,
    "parallel": SLICE,
}
VARIANTS = {
    "cpu": Variant("MNIST in minutes on two cores: the paper's network, with Adam"),
    "mnist": Variant("MNIST as in the paper, section 5: Adagrad, MAP, 10^8 samples seen", PAPER),
    "pytorch": Variant("MNIST as in PyTorch's examples: 400 ReLU, Adam, 10 epochs", PYTORCH),
    "digits": Variant("8x8 digits, embedded: for tests, seconds", DIGITS.settings | EMBEDDED),
}
RANGES = OPTIMIZER | {
    "size": AMOUNT,
    "hidden": COUNT,
    "latent_size": COUNT,
    "beta": NOT_NEGATIVE,
    "samples": COUNT,
    "importance_samples": Range(least=1, most=5_000),
    "remat": ("none",),
}


def optimizer(config):
    """Return Adam, or the paper's Adagrad with decayed weights."""
    if not config.adagrad:
        return optax.adam(config.learning_rate)
    decay = optax.add_decayed_weights(config.weight_decay)
    return optax.chain(decay, optax.adagrad(config.learning_rate, initial_accumulator_value=0.0))


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    images = partial(from_config, ImageData, config, name=config.dataset, size=config.size or None)
    images = partial(images, range=(0.0, 1.0))
    train, test = given_or(data, lambda: (images(), images(split="test")))
    check_pictures(train)
    size = from_config(
        MLPSize,
        config,
        shape=train.element["image"].shape,
        activation=nn.relu if config.relu else nn.tanh,
    )
    # The paper draws all weights from N(0, 0.01).
    weights = nn.initializers.normal(0.1) if config.adagrad else nn.initializers.lecun_normal()

    loss = partial(elbo_loss, samples=config.samples, beta=config.beta)
    bound = partial(importance_weighted_bound, samples=config.importance_samples)

    task = Task(
        networks=size.networks(kernel_init=weights, dtype=jnp.dtype(config.dtype)),
        stages=[Stage([Phase("elbo", loss, ("encoder", "decoder"), optimizer(config))])],
        samplers={
            "prior": Sampler(sample_prior, image_grid),
            "reconstruction": Sampler(reconstruct, image_grid, partial(first_images, test)),
        },
        evaluators={"elbo": Evaluator(elbo), "importance_weighted_bound": Evaluator(bound)},
    )
    return Experiment(task, train, test)
