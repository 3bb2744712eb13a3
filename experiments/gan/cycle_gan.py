"""Zhu et al. 2017, Unpaired image-to-image translation, CycleGAN (arXiv:1703.10593).

Two residual generators and two discriminators of 70x70 patches, least squares, cycles weighted by
10 and identities by half of it, a pool of 50 fakes, Adam at 2e-4 with a linear decay.

    genax train experiments/gan/cycle_gan.py --workdir runs/cycle_gan
"""

from functools import partial
from operator import itemgetter

import optax

from genax.core import Experiment, Phase, Sampler, Stage, Task
from genax.data import ImageData, Joined, given_or
from genax.data.jitter import jittered
from genax.evaluation.examples import first_examples
from genax.evaluation.likeness import likeness
from genax.evaluation.pictures import side_by_side
from genax.gan.cycle_gan import (
    CycleNetworks,
    check_domains,
    cycle_discriminator_loss,
    cycle_generator_loss,
    to_a,
    to_b,
)
from genax.gan.image_pool import POOL, check_pool
from genax.gan.patch_discriminator import PatchDiscriminator
from genax.gan.resnet_generator import ResNetGenerator
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.nn.optimizers import constant_linear
from genax.settings import Variant, from_config
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE

# Two styles of one set of emoji; each trains on the other half of them, so that no pair is seen.
DEFAULTS = {
    "dataset": "emoji_styles",
    # Of each domain: the picture of the set, "" for the first, and the splits.
    "a": {"image": "twitter", "train": "train[:50%]", "test": "test"},
    "b": {"image": "fluent", "train": "train[50%:]", "test": "test"},
    # Whether image n of one domain's test split is the true counterpart of image n of the other's.
    "paired": True,
    "size": 32,
    # Pixels by which a training image is enlarged before its old size is cut out; 0 is no jitter.
    "jitter": 0,
    "flip": True,
    "width": 32,
    "num_blocks": 3,
    "discriminator_width": 32,
    # Layers of stride 2 of a discriminator.
    "num_layers": 2,
    "cycle_weight": 10.0,
    "identity_weight": 5.0,
    # Earlier fakes that each discriminator sees; 0 is none.
    "pool_size": 50,
    "learning_rate": 2e-4,
    "b1": 0.5,
    # The last steps, in which the rate falls to 0, and those before them.
    "constant_steps": 5_000,
    "decay_steps": 5_000,
    "batch_size": 4,
    "steps": 10_000,
    "checkpoint_every": 1_000,
    "sample_every": 1_000,
    "num_samples": 16,
}
DIGITS = {
    "dataset": "digit_pairs",
    "a": {"image": "strokes", "train": "train[:50%]", "test": "test"},
    "b": {"image": "colour", "train": "train[50%:]", "test": "test"},
    "size": 8,
    "flip": False,
    "width": 16,
    "num_layers": 1,
    "learning_rate": 1e-3,
    "constant_steps": 750,
    "decay_steps": 750,
    "batch_size": 8,
    "steps": 1_500,
    "log_every": 50,
    "checkpoint_every": 500,
    "sample_every": 500,
}
# 200 epochs of the 1,334 zebras.
PUBLISHED = {
    "dataset": "tfds:cycle_gan/horse2zebra",
    "a": {"image": "", "train": "trainA", "test": "testA"},
    "b": {"image": "", "train": "trainB", "test": "testB"},
    "paired": False,
    "size": 256,
    "jitter": 30,
    "width": 64,
    "num_blocks": 9,
    "discriminator_width": 64,
    "num_layers": 3,
    "constant_steps": 133_400,
    "decay_steps": 133_400,
    "batch_size": 1,
    "steps": 266_800,
    "log_every": 100,
    "checkpoint_every": 5_000,
    "sample_every": 5_000,
    "eval_batch_size": 16,
    "parallel": {"topology": "v5e:1x1"},
}
VARIANTS = {
    "cpu": Variant("emoji of Twitter and Fluent, 32x32, on two cores"),
    "horse2zebra": Variant("the paper's horses and zebras; prepare TFDS cycle_gan", PUBLISHED),
    "six_blocks": Variant(
        "the same at 128x128, with six residual blocks",
        PUBLISHED | {"size": 128, "jitter": 15, "num_blocks": 6},
    ),
    "digits": Variant("strokes and coloured 8x8 digits, embedded, in two minutes", DIGITS),
}
RANGES = OPTIMIZER | {
    "size": COUNT,
    "jitter": AMOUNT,
    "width": COUNT,
    "num_blocks": COUNT,
    "discriminator_width": COUNT,
    "num_layers": AMOUNT,
    "cycle_weight": NOT_NEGATIVE,
    "identity_weight": NOT_NEGATIVE,
    "pool_size": AMOUNT,
    "remat": ("none",),
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    check_pool(config.pool_size, config.batch_size)
    train, test = given_or(data, lambda: domains(config))
    channels = check_domains(train, config.identity_weight)
    judge = from_config(
        PatchDiscriminator, config, width=config.discriminator_width, norm="instance"
    )
    generator = partial(from_config, ResNetGenerator, config)
    rate = constant_linear(config.learning_rate, config.constant_steps, config.decay_steps)
    adam = optax.adam(rate, b1=config.b1)
    generators = partial(
        cycle_generator_loss,
        cycle_weight=config.cycle_weight,
        identity_weight=config.identity_weight,
    )
    discriminators = partial(cycle_discriminator_loss, pool_size=config.pool_size)
    phases = [
        Phase("generators", generators, ("to_a", "to_b"), adam),
        Phase("discriminators", discriminators, ("discriminator_a", "discriminator_b"), adam),
    ]
    return Experiment(
        Task(
            CycleNetworks(
                to_a=generator(channels=channels["a"]),
                to_b=generator(channels=channels["b"]),
                discriminator_a=judge,
                discriminator_b=judge.clone(),
            ),
            [Stage(phases, together=True)],
            samplers={
                "to_b": sampler(to_b, test, "a_image", config.paired and "b_image"),
                "to_a": sampler(to_a, test, "b_image", config.paired and "a_image"),
            },
            evaluators=scores() if config.paired else {},
            summed=(POOL,) if config.pool_size else (),
        ),
        train,
        test,
    )


def domains(config):
    """Return the training and the test images of both domains that the settings name."""
    images = partial(ImageData, config.dataset, size=config.size, damaged=config.damaged)
    jitter = partial(jittered, margin=config.jitter) if config.jitter else None

    def joined(split, paired, **changes):
        return Joined(
            paired=paired,
            **{
                name: images(split=config[name][split], image=config[name].image or None, **changes)
                for name in ("a", "b")
            },
        )

    train = joined("train", False, flip=config.flip, transform=jitter)
    return train, joined("test", config.paired)


def sampler(function, test, source, real):
    """Return the sampler of translations of test images, drawn beside them and what is true."""
    render = partial(
        side_by_side, before=itemgetter(source), after=itemgetter(real) if real else None
    )
    names = ("a_image", "b_image")
    return Sampler(function, render, partial(first_examples, test, names=names))


def scores():
    """Return the distances of translations to their true counterparts."""
    return {
        name: likeness(function, itemgetter(source), what="the source", real=real)
        for name, function, source, real in (
            ("to_b", to_b, "a_image", "b_image"),
            ("to_a", to_a, "b_image", "a_image"),
        )
    }
