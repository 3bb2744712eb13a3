"""An & Cho 2015, Variational Autoencoder based Anomaly Detection using Reconstruction Probability.

An autoencoder is trained on normal examples alone. What it reconstructs badly is an anomaly: scores
are the squared error, the reconstruction probability and the ELBO. A threshold is a quantile of
normal examples that did not train; the mean and deviation that data are standardised by are those
of the training normals. ROC and precision-recall curves are drawn to WORKDIR/evaluation.

    genax train experiments/vae/anomaly.py --workdir runs/heartbeats
    genax train experiments/vae/anomaly.py:fashion --workdir runs/trousers --config.normal=1

ECG5000 keeps the archive's split: 234 of 292 normal heartbeats train and 58 set the threshold; the
test is of 2,627 normal and 1,873 other ones.
"""

from dataclasses import replace
from functools import partial

import jax.numpy as jnp

from genax.core import Experiment, Phase, Sampler, Stage, Task
from genax.data import ImageData, SeriesData, given_or
from genax.data.drawn import Drawn
from genax.data.fields import series_of
from genax.data.selection import Selection
from genax.data.sets.named import open_set
from genax.data.standardised import Standardised
from genax.evaluation.anomaly import detection
from genax.evaluation.examples import first_examples
from genax.settings import Variant
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, Range
from genax.vae.anomaly import (
    anomaly_scores,
    denoising_loss,
    draw_reconstructions,
    gaussian_of,
    reconstructions,
)
from genax.vae.settings import DEFAULTS as SHARED
from genax.vae.settings import RANGES as SHARED_RANGES
from genax.vae.tasks import adam, size_of

NAMES = ("activation", "decoder_activation", "decoder_hidden", "widths", "size", "num_classes")
DEFAULTS = {
    **{name: SHARED[name] for name in NAMES},
    "dataset": "ecg5000",
    # Labels of the normal examples; each `validation_every`th of them sets the threshold.
    "normal": (0,),
    "validation_every": 5,
    # The share of these that lies at or below the threshold.
    "quantile": 0.98,
    "hidden": (64,),
    "latent_size": 8,
    # Of the likelihood, in standardised units, and of noise that is added to what is encoded.
    "deviation": 1.0,
    "noise": 0.5,
    "beta": 1.0,
    "samples": 1,
    # Latents that are drawn for a score.
    "score_samples": 16,
    **{name: SHARED[name] for name in ("learning_rate", "b1", "b2", "epsilon")},
    "batch_size": 64,
    "steps": 3_000,
    "steps_per_call": 25,
    "log_every": 100,
    "checkpoint_every": 3_000,
    "sample_every": 3_000,
    "num_samples": 16,
}
FASHION = {
    "dataset": "fashion_mnist",
    "hidden": (512, 256),
    "latent_size": 16,
    "noise": 0.0,
    "quantile": 0.95,
    "batch_size": 128,
    "steps": 5_000,
}
VARIANTS = {
    "cpu": Variant("heartbeats of ECG5000, in seconds on two cores"),
    "fashion": Variant("Fashion-MNIST, one class normal and nine not", FASHION),
    "digits": Variant("waves, embedded, in seconds", {"dataset": "waves", "steps": 1_000}),
    "digits-images": Variant(
        "8x8 digits, zeros normal and all others not",
        {"dataset": "digits", "noise": 0.0, "deviation": 0.5, "steps": 2_000},
    ),
}
RANGES = SHARED_RANGES | {
    "normal": AMOUNT,
    "validation_every": Range(least=2, most=1_000, whole=True),
    "quantile": Range(above=0, most=1),
    "noise": NOT_NEGATIVE,
    "score_samples": COUNT,
    "num_classes": Range(least=0, most=0, whole=True),
}


def read(config, data=None):
    """Return the training, held-out and test data, standardised by the first.

    data: a caller's, in place of those that the settings name.
    """
    train, test = given_or(data, lambda: own(config))
    held_out = train
    if isinstance(train, ImageData | SeriesData) and "label" in train.element:
        normals = Selection(tuple(config.normal), config.validation_every)
        train = replace(train, select=normals)
        held_out = replace(train, select=normals.validation)
    return [Standardised(one, by=train) for one in (train, held_out, test)]


def own(config):
    """Return both splits of the data set that the settings name."""
    if series_of(open_set(config.dataset).fields):
        return SeriesData(config.dataset), SeriesData(config.dataset, "test")
    images = partial(ImageData, size=config.size or None, range=(0.0, 1.0), damaged=config.damaged)
    return images(config.dataset), images(config.dataset, "test")


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given.

    Given are training and labelled test examples. Labelled `ImageData` and `SeriesData` are
    selected from like its own; of any other data the training examples are taken for normal ones,
    and set the threshold too.
    """
    train, held_out, test = read(config, data)
    size = size_of(config, train.element["image"].shape, gaussian_of(config.deviation))
    loss = partial(denoising_loss, noise=config.noise, samples=config.samples, beta=config.beta)
    score = partial(anomaly_scores, samples=config.score_samples)
    normals = "training normals" if held_out.data is train.data else "held-out normals"
    limits = {"quantile": config.quantile, "normals": normals}
    evaluator = detection(score, test, held_out, tuple(config.normal), **limits)

    def shown(num, workdir):
        return first_examples(Drawn(test, num), num, workdir, ("image", "label"))

    task = Task(
        networks=size.networks(dtype=jnp.dtype(config.dtype)),
        stages=[Stage([Phase("elbo", loss, ("encoder", "decoder"), adam(config))])],
        samplers={"reconstruction": Sampler(reconstructions, draw_reconstructions, shown)},
        evaluators={"anomaly": evaluator},
    )
    return Experiment(task, train, test)
