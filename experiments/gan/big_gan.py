"""Brock, Donahue & Simonyan 2019, Large scale GAN training for high fidelity (arXiv:1809.11096).

Residual networks with spectral norm and self-attention. The generator gets the class, and a part of
the latent, in each norm; the discriminator's score is projected onto the class. Hinge losses. With
`deep` blocks are those of BigGAN-deep.

    genax train experiments/gan/big_gan.py --workdir runs/big_gan
    genax train experiments/gan/big_gan.py:digits --workdir runs/digits
    genax sample runs/digits --config.truncation=0.5 --config.standing_passes=16
    genax sample runs/digits --config.tools=True --sampler truncation --num 8

Variant digits on a busy pair of cores: 136 seconds of processor time. Of 100 samples all ten
classes appear, in each of ten hundreds; the rarest class has 9.1% of 1,000 samples. The classifier
that counts them is right on 95.3% of real test images.

The settings of ImageNet are those of ajbrock's BigGAN-PyTorch, but imagenet128-paper's. Fakes have
the classes of the batch's images, which are as frequent as those of the official code.
"""

from functools import partial

import optax

from genax.gan.big_gan import SIZES, BigGANDiscriminator, BigGANGenerator
from genax.gan.orthogonal import orthogonal_penalty
from genax.gan.sampling import generate
from genax.gan.settings import DEFAULTS as SHARED
from genax.gan.settings import PUBLISHED, small_variants
from genax.gan.settings import RANGES as SHARED_RANGES
from genax.gan.standing_statistics import standing_images
from genax.gan.tasks import image_gan
from genax.gan.truncation import truncated_normal, truncation_tools
from genax.gan.turns import after
from genax.nn.ema import ema_late, ema_of_moves
from genax.settings import Variant
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, POSITIVE

DEFAULTS = SHARED | {
    **SIZES["small"],
    "num_classes": 10,
    "game": "hinge",
    # Of the generator, and of the discriminator.
    "learning_rate": 1e-4,
    "discriminator_rate": 4e-4,
    "b1": 0.0,
    "adam_epsilon": 1e-6,
    # The weight of the generator's orthogonal regularisation; 0 is none.
    "orthogonal_weight": 0.0,
    "ema": 0.999,
    # The move of the generator from which its average is one, and no copy.
    "ema_start": 500,
    # The largest number in latents of samples; 0 is any.
    "truncation": 0.0,
    # Batches of samples whose moments samples are normalised by; 0 is the running statistics.
    "standing_passes": 0,
    # Whether the last convolution has channels that no image shows, as in the authors' weights.
    "spare_channels": False,
}
IMAGENET = PUBLISHED | {
    "dataset": "tfds:imagenet2012",
    "num_classes": 1_000,
    "flip": True,
    "batch_size": 2_048,
    "steps": 150_000,
    "ema": 0.9999,
    "ema_start": 20_000,
    "standing_passes": 16,
}


def imagenet(size, topology, **settings):
    """Return the variant of a size of ImageNet."""
    network = SIZES[size]
    pixels = network["image_size"]
    name = "BigGAN-deep" if network["deep"] else "BigGAN"
    what = f"ImageNet at {pixels}x{pixels} with classes by {name}; TFDS imagenet2012"
    return Variant(what, IMAGENET | network | {"parallel": {"topology": topology}} | settings)


VARIANTS = small_variants(
    SIZES["digits"] | {"learning_rate": 2e-4, "ema": 0.99},
    comparison=SIZES["small"]
    | {"image_size": 32, "latent_size": 64, "multipliers": (4, 4, 2, 1)}
    | {"attention_at": 16},
) | {
    "imagenet128": imagenet("128", "v5e:8x8"),
    "imagenet128-paper": imagenet(
        "128",
        "v5e:8x8",
        learning_rate=5e-5,
        discriminator_rate=2e-4,
        critic_steps=2,
        steps=300_000,
        orthogonal_weight=1e-4,
    ),
    "imagenet256": imagenet("256", "v5e:16x16"),
    "imagenet512": imagenet("512", "v5e:16x16"),
    "imagenet128-deep": imagenet("deep128", "v5e:8x8"),
    "imagenet256-deep": imagenet("deep256", "v5e:16x16"),
    "imagenet512-deep": imagenet("deep512", "v5e:16x16"),
}
RANGES = SHARED_RANGES | {
    "label_size": COUNT,
    "multipliers": COUNT,
    "attention_at": AMOUNT,
    "discriminator_rate": NOT_NEGATIVE,
    "adam_epsilon": POSITIVE,
    "orthogonal_weight": NOT_NEGATIVE,
    "ema_start": AMOUNT,
    "truncation": NOT_NEGATIVE,
    "standing_passes": AMOUNT,
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""

    def adam(rate):
        return optax.adam(rate, b1=config.b1, b2=config.b2, eps=config.adam_epsilon)

    def samples(nets, batch, draw, condition, inputs):
        draw = truncated_normal(config.truncation)
        if not config.standing_passes:
            return generate(nets, batch, draw, condition)
        passes, classes = config.standing_passes, config.num_classes
        return standing_images(nets, batch, draw, condition, passes, num_classes=classes)

    late = ema_late(config.ema, config.ema_start)
    decay = ema_of_moves(late, after(config.critic_steps), config.critic_steps)
    averaged = [f"{collection}generator" for collection in ("", "batch_stats/", "spectral_norm/")]
    orthogonal = {"orthogonal": partial(orthogonal_penalty, weight=config.orthogonal_weight)}
    return image_gan(
        config,
        data,
        BigGANGenerator,
        BigGANDiscriminator,
        samples=samples,
        tools=truncation_tools,
        optimizers={
            "discriminator": adam(config.discriminator_rate),
            "generator": adam(config.learning_rate),
        },
        generator_penalties=orthogonal if config.orthogonal_weight else None,
        averages=dict.fromkeys(averaged, decay) if config.ema else {},
    )
