"""Training steps of GANs in PyTorch, beside which those of genax are timed.

Networks are channels last, and Adam is fused. A player's gradients are by its own parameters. Each
phase draws new fakes, since the phases of genax do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.torch_style_gan2 import Discriminator, Generator
from genax.gan.growing import features_at, sizes_to
from tests.gan import gan_lab
from tests.gan.test_parity import discriminator_reference, generator_reference

Step = Callable[[], None]


def images_of(batch: dict[str, np.ndarray]) -> Tensor:
    """Return images [b, c, h, w] that are channels last in memory."""
    return torch.from_numpy(batch["image"]).permute(0, 3, 1, 2)


def slopes_at(network: nn.Module, images: Tensor) -> Tensor:
    """Return the squared norm of each score's gradient by its image, to be differentiated again."""
    images = images.detach().requires_grad_()
    [slopes] = torch.autograd.grad(network(images).sum(), images, create_graph=True)
    return slopes.square().sum((1, 2, 3))


def unit_slope(network: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Return WGAN-GP's penalty between real images and fakes."""
    points = torch.lerp(fake, real, torch.rand(len(real), 1, 1, 1))
    return 10.0 * (slopes_at(network, points).sqrt() - 1).square().mean()


class Player:
    """A network with its Adam and, with a decay, the average of its parameters."""

    def __init__(
        self,
        network: nn.Module,
        rate: float,
        betas: tuple[float, float],
        parameters: Iterable[nn.Parameter] | None = None,
        decay: float = 0.0,
    ):
        self.network = network.to(memory_format=torch.channels_last)
        self.parameters = list(network.parameters() if parameters is None else parameters)
        self.adam = torch.optim.Adam(self.parameters, rate, betas, fused=True)
        average = get_ema_multi_avg_fn(decay)
        self.average = AveragedModel(network, multi_avg_fn=average) if decay else None

    def minimise(self, loss: Tensor) -> None:
        """Take a step of Adam."""
        slopes = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        for parameter, slope in zip(self.parameters, slopes, strict=True):
            parameter.grad = slope
        self.adam.step()

    def advance(self) -> None:
        """Move the average."""
        if self.average is not None:
            self.average.update_parameters(self.network)

    @property
    def size(self) -> int:
        """Number of parameters that are trained."""
        return sum(parameter.numel() for parameter in self.parameters)


def repeated(step: Callable[[int], None], steps: int) -> Step:
    """Return a function that takes a number of steps."""

    def take() -> None:
        for number in range(steps):
            step(number)

    return take


def dcgan(config: Any, batch: dict[str, np.ndarray], steps: int) -> tuple[Step, int]:
    """Return steps of DCGAN in the form of PyTorch's example, and the number of parameters."""
    real = images_of(batch)
    side, channels = real.shape[-1], real.shape[1]
    network = generator_reference(side, channels, config.width, config.latent_size)
    betas = (config.b1, config.b2)
    generator = Player(network, config.learning_rate, betas, decay=config.ema)
    network = discriminator_reference(side, channels, config.width)
    discriminator = Player(network, config.learning_rate, betas)

    def fakes() -> Tensor:
        return generator.network(torch.randn(len(real), config.latent_size, 1, 1))

    def step(number: int) -> None:
        with torch.no_grad():
            fake = fakes()
        scores = discriminator.network(real), discriminator.network(fake)
        discriminator.minimise((F.softplus(-scores[0]) + F.softplus(scores[1])).mean())
        generator.minimise(F.softplus(-discriminator.network(fakes())).mean())
        generator.advance()

    return repeated(step, steps), generator.size + discriminator.size


class UpBlock(nn.Module):
    """Residual block of WGAN-GP's generator."""

    def __init__(self, width: int):
        super().__init__()
        self.norm_0, self.norm_1 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.up, self.conv = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.shortcut = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(F.interpolate(F.relu(self.norm_0(x)), scale_factor=2))
        y = self.conv(F.relu(self.norm_1(y)))
        return self.shortcut(F.interpolate(x, scale_factor=2)) + y


class ResidualGenerator(nn.Module):
    """WGAN-GP's generator of images of 32x32."""

    def __init__(self, width: int, latent: int, channels: int):
        super().__init__()
        self.project = nn.Linear(latent, 16 * width)
        self.blocks = nn.Sequential(*[UpBlock(width) for _ in range(3)])
        self.norm, self.image = nn.BatchNorm2d(width), nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.project(z).view(len(z), -1, 4, 4).contiguous(memory_format=torch.channels_last)
        return torch.tanh(self.image(F.relu(self.norm(self.blocks(x)))))


class CriticBlock(nn.Module):
    """Residual block of WGAN-GP's critic."""

    def __init__(self, channels: int, width: int, down: bool = False):
        super().__init__()
        self.first = channels != width
        self.conv_0 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, width, 1) if down else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_1(F.relu(self.conv_0(x if self.first else F.relu(x))))
        if self.shortcut is None:
            return x + y
        x = self.shortcut(F.avg_pool2d(x, 2)) if self.first else F.avg_pool2d(self.shortcut(x), 2)
        return x + F.avg_pool2d(y, 2)


class ResidualCritic(nn.Module):
    """WGAN-GP's critic."""

    def __init__(self, width: int, channels: int):
        super().__init__()
        self.blocks = nn.Sequential(
            CriticBlock(channels, width, down=True),
            CriticBlock(width, width, down=True),
            CriticBlock(width, width),
            CriticBlock(width, width),
        )
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(F.relu(self.blocks(x)).mean((2, 3)))[:, 0]


def wasserstein(
    critic: Player, generator: Player, real: Tensor, latent: int, drift: float, fakes: int
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return the moves of a critic with gradient penalty and of its generator.

    drift: weight of squared scores of real images.
    fakes: of the generator's move for each image.
    """

    def move_critic() -> None:
        with torch.no_grad():
            fake = generator.network(torch.randn(len(real), latent))
        scores = critic.network(real)
        loss = critic.network(fake).mean() - scores.mean() + drift * scores.square().mean()
        critic.minimise(loss + unit_slope(critic.network, real, fake))

    def move_generator() -> None:
        fake = generator.network(torch.randn(fakes * len(real), latent))
        generator.minimise(-critic.network(fake).mean())

    return move_critic, move_generator


def wgan_gp(config: Any, batch: dict[str, np.ndarray], steps: int) -> tuple[Step, int]:
    """Return steps of WGAN-GP, each a move of the critic, and the number of parameters."""
    real = images_of(batch)
    betas, channels = (config.b1, config.b2), real.shape[1]
    network = ResidualGenerator(config.width, config.latent_size, channels)
    generator = Player(network, config.learning_rate, betas, decay=config.ema)
    critic = Player(ResidualCritic(config.width, channels), config.learning_rate, betas)
    move_critic, move_generator = wasserstein(
        critic, generator, real, config.latent_size, 0.0, config.fakes
    )

    def step(number: int) -> None:
        move_critic()
        if (number + 1) % config.critic_steps == 0:
            move_generator()
        generator.advance()

    return repeated(step, steps), generator.size + critic.size


def pro_gan(config: Any, batch: dict[str, np.ndarray], steps: int) -> tuple[Step, int]:
    """Return steps of gan-lab's ProGAN when it has grown, and the number of parameters in play."""
    real = images_of(batch)
    module = gan_lab.networks("progan", config.width // 2, config.max_width)
    final, sizes = config.image_size, len(sizes_to(config.image_size))
    make = partial(module.ProGenerator, final, len_latent=config.latent_size)
    network = gan_lab.with_official_bias(gan_lab.grown(make, sizes, None), module)
    betas = (config.b1, config.b2)

    def in_play(network: nn.Module) -> list[nn.Parameter]:
        return [one for name, one in network.named_parameters() if not name.startswith("prev_")]

    generator = Player(network, config.learning_rate, betas, in_play(network), config.ema)
    network = gan_lab.grown(partial(module.ProDiscriminator, final), sizes, None)
    critic = Player(network, config.learning_rate, betas, in_play(network))
    move_critic, move_generator = wasserstein(
        critic, generator, real, config.latent_size, config.drift_weight, 1
    )

    def step(number: int) -> None:
        move_critic()
        move_generator()
        generator.advance()

    return repeated(step, steps), generator.size + critic.size


def style_gan2(config: Any, batch: dict[str, np.ndarray], steps: int) -> tuple[Step, int]:
    """Return steps of StyleGAN2 with lazy penalties, and the number of parameters."""
    real = images_of(batch)
    channels, side = real.shape[1], real.shape[-1]
    widths = {size: features_at(size, config.width, config.max_width) for size in sizes_to(side)}
    network = Generator(
        widths, channels, config.latent_size, config.style_size, config.mapping_layers
    )

    def player(network: nn.Module, every: int, decay: float = 0.0) -> Player:
        share = every / (every + 1)
        betas = (config.b1**share, config.b2**share)
        return Player(network, config.learning_rate * share, betas, decay=decay)

    generator = player(network, config.path_every, 0.5 ** (len(real) / config.half_life))
    network = Discriminator(widths, channels, config.group_size)
    discriminator = player(network, config.r1_every)
    mean_length = torch.zeros(())

    def styles(count: int) -> Tensor:
        z, second = torch.randn(2, count, config.latent_size)
        last = 2 * len(widths)
        mixes = torch.rand(count) < config.mixing
        crossover = torch.where(mixes, torch.randint(1, last, (count,)), last)
        return generator.network.styles(z, second, crossover)

    def path_lengths() -> None:
        found = styles(len(real) // config.path_shrink)
        fake = generator.network(found)
        noise = torch.randn_like(fake) / side
        [slopes] = torch.autograd.grad((fake * noise).sum(), found, create_graph=True)
        lengths = slopes.square().sum(2).mean(1).sqrt()
        mean = mean_length.lerp(lengths.mean(), 0.01)
        mean_length.copy_(mean.detach())
        weight = config.path_weight * config.path_every
        generator.minimise(weight * (lengths - mean).square().mean())

    def step(number: int) -> None:
        fake = generator.network(styles(len(real)))
        generator.minimise(F.softplus(-discriminator.network(fake)).mean())
        if number % config.path_every == 0:
            path_lengths()
        with torch.no_grad():
            fake = generator.network(styles(len(real)))
        scores = discriminator.network(real), discriminator.network(fake)
        discriminator.minimise((F.softplus(-scores[0]) + F.softplus(scores[1])).mean())
        if number % config.r1_every == 0:
            weight = config.penalty_weight / 2 * config.r1_every
            discriminator.minimise(weight * slopes_at(discriminator.network, real).mean())
        generator.advance()

    return repeated(step, steps), generator.size + discriminator.size
