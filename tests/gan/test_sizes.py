"""Parameters of the published sizes, exactly: of official code or of its layers."""

import jax
import jax.numpy as jnp
import pytest

from genax.gan import dcgan, maxout, r3gan, residual
from genax.gan.tasks import network_of
from tests.experiments import config_of, load

IMAGE = {28: (28, 28, 1), 32: (32, 32, 3), 64: (64, 64, 3)}
RESIDUAL = (residual.ResidualGenerator, residual.ResidualCritic)


@pytest.mark.parametrize(
    ("experiment", "variant", "networks", "counts"),
    [
        (
            "gan",
            "mnist",
            (maxout.PerceptronGenerator, maxout.MaxoutDiscriminator),
            (2_503_984, 1_231_441),
        ),
        (
            "wgan",
            "lsun64",
            (dcgan.DCGANGenerator, dcgan.DCGANDiscriminator),
            (3_576_704, 2_765_568),
        ),
        ("wgan_gp", "cifar10", RESIDUAL, (1_204_483, 1_053_825)),
        ("wgan_gp", "cifar10-conditional", RESIDUAL, (1_218_307, 1_055_115)),
        # No published count: a bias, a basis and 1x1 and grouped convolutions as in its code.
        (
            "r3gan",
            "cifar10",
            (r3gan.R3GANGenerator, r3gan.R3GANDiscriminator),
            (20_732_160, 20_683_776),
        ),
    ],
)
def test_published_parameter_counts(experiment, variant, networks, counts):
    config = config_of(load(f"experiments/gan/{experiment}.py"), variant)
    classes = config.num_classes or None
    shape = IMAGE[config.image_size]
    label = {} if classes is None else {"label": jnp.zeros(2, jnp.int32)}
    generator = network_of(networks[0], config, channels=shape[-1])
    discriminator = network_of(networks[1], config)
    inputs = (jnp.zeros((2, config.latent_size)), jnp.zeros((2, *shape)))
    found = []
    for network, x in zip((generator, discriminator), inputs, strict=True):
        shapes = jax.eval_shape(lambda x, n=network: n.init(jax.random.key(0), x, **label), x)
        found.append(sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])))
    assert tuple(found) == counts
