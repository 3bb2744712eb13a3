"""The contract table: one row a task. A new task joins every contract with one row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

from genax.core import Task
from genax.core.step import Element
from genax.settings.overrides import override
from tests import experiments
from tests.contracts import (
    adapters,
    batch_norm_gan,
    clip,
    codes,
    cycle_gan,
    deep_blocks,
    denoiser,
    flamingo,
    frozen_frequencies,
    language_model,
    latent,
    latent_images,
    llava,
    progan,
    stylegan2_ada,
    translators,
    vae_gan,
    wgan_gp,
)

BATCH_SIZE = 16
# Any layout whose microbatches are parts of the batch.
ACCUMULATED = ("pmap_accumulate_2", "sharded_accumulate_4")
BATCH_NORM = dict.fromkeys(ACCUMULATED, "BatchNorm normalises each microbatch by itself")
DROPOUT = dict.fromkeys(("pmap", *ACCUMULATED), "each shard draws dropout masks of its own")

# Of the contracts that hold to the bit; these hold to 1e-6 instead.
CONVOLUTION = {"steps_per_call": "XLA may compute a convolution inside a loop by another routine"}
SUMS = {"steps_per_call": "XLA may take a sum (a bias' gradient) in another order inside a loop"}
# A contract that compares the slope of a loss with differences of it.
HELD_FIXED = {"differences": "the loss holds fixed some of what the network computes"}
FLAT = dict.fromkeys(
    ("pmap", "sharded", *ACCUMULATED),
    "a constant image has no slope through its normalisation but rounding, which Adam makes a move",
)
CANCELLED = {"moves": "a bias that real images and fakes both get has no part in their difference"}
SPECTRAL_NORM = {
    "created_in_parts": "SpectralNorm divides a new kernel by its norm, a sum of parts"
}
# A bias before BatchNorm has no gradient but rounding, of which Adam would make a whole step.
FAST, SLOW = (
    dict.fromkeys(("discriminator", "generator"), optax.sgd(rate)) for rate in (0.1, 1e-3)
)
# Settings of the chapter "Diffusion".
SMALL_UNET = {
    "unet.channels": "8",
    "unet.num_groups": "4",
    "unet.multipliers": "(1,)",
    "unet.attention_resolutions": "()",
    "warmup_steps": "4",
}


@dataclass(frozen=True)
class Row:
    """A task that keeps the contracts.

    make: dtype of the computation -> task. element: shapes of an example, or one a stage.
    batch: (rng, size) -> arrays; None draws them from the shapes, integers below `classes`.
    exceptions: layout or contract to the documented reason for which it may differ.
    daily: whether its tests run without the option for all tests: a row or two for each chapter.
    """

    name: str
    make: Callable[[Any], Task]
    element: Element | tuple[Element, ...]
    batch: Callable[[np.random.Generator, int], Mapping[str, np.ndarray]] | None = None
    classes: int = 10
    exceptions: Mapping[str, str] = field(default_factory=dict)
    daily: bool = False

    @property
    def is_toy(self) -> bool:
        """Whether it exists for these tests alone."""
        return not self.name.startswith("experiments/")

    def batch_at(self, step: int, size: int = BATCH_SIZE) -> dict[str, np.ndarray]:
        """The batch of a step: random, and always the same."""
        rng = np.random.default_rng(step)
        if self.batch is not None:
            return dict(self.batch(rng, size))
        element = self.element
        if isinstance(element, tuple):
            element = element[self.make(jnp.float32).stage_at(step)[0]]
        return {name: self._draw(rng, (size, *x.shape), x.dtype) for name, x in element.items()}

    def _draw(self, rng, shape, dtype) -> np.ndarray:
        if np.issubdtype(dtype, np.integer):
            return rng.integers(0, self.classes, shape).astype(dtype)
        return rng.uniform(0.0, 1.0, shape).astype(dtype)


def experiment(
    name: str,
    variant: str,
    settings: Mapping[str, str],
    label: str = "",
    networks: Callable[[Any], Mapping[str, nn.Module]] | None = None,
    optimizers: Mapping[str, optax.GradientTransformation] | None = None,
    **row: Any,
) -> Row:
    """A row of a real experiment, shrunk by its settings; path without "experiments/".

    label: tells the rows of one experiment apart.
    networks: dtype -> networks in place of its own, which have a row of their own.
    optimizers: by phase, in place of its own.
    """

    @cache
    def build(dtype):
        module = experiments.load(f"experiments/{name}")
        named = {"dtype": jnp.dtype(dtype).name}
        config = override(experiments.config_of(module, variant), {**settings, **named})
        built = module.build(config)
        built = built if networks is None else built.replace(networks=networks(dtype))
        return built if optimizers is None else built.replace(optimizers=optimizers)

    data = build(jnp.float32).data
    return Row(
        name=f"experiments/{name}{label and ':'}{label}",
        make=lambda dtype: build(dtype).task,
        element=tuple(d.element for d in data) if isinstance(data, tuple) else data.element,
        **row,
    )


def plain_denoiser(dtype: Any) -> Mapping[str, nn.Module]:
    """Layers in place of a U-Net, whose rows are those of DDPM."""
    return {"denoiser": denoiser.PlainDenoiser((8, 8, 1), dtype=dtype)}


def plain_guided(dtype: Any) -> Mapping[str, nn.Module]:
    """Layers in place of a U-Net that learns variances, and of the classifier that guides it."""
    shapes = {"denoiser": (8, 8, 2), "guide": (denoiser.CLASSES,)}
    return {name: denoiser.PlainDenoiser(shape, dtype=dtype) for name, shape in shapes.items()}


ROWS = (
    Row("llava", llava.make, llava.ELEMENT, llava.batch),
    Row("flamingo", flamingo.make, flamingo.ELEMENT, flamingo.batch),
    Row("wgan_gp", wgan_gp.make, wgan_gp.ELEMENT, exceptions=SPECTRAL_NORM, daily=True),
    Row("clip", clip.make, clip.ELEMENT, daily=True),
    Row("denoiser", denoiser.make, denoiser.ELEMENT, daily=True),
    Row("frozen_frequencies", frozen_frequencies.make, frozen_frequencies.ELEMENT),
    Row("latent", latent.make, latent.ELEMENT, daily=True),
    Row(
        "language_model",
        language_model.make,
        language_model.ELEMENT,
        language_model.batch,
        exceptions=DROPOUT,
    ),
    Row("adapters", adapters.make, language_model.ELEMENT, language_model.batch),
    experiment("vae/vae.py", "digits", {"hidden": "(16,)", "latent_size": "4"}, daily=True),
    experiment("vae/anomaly.py", "digits", {"hidden": "(8,)", "latent_size": "3"}),
    experiment(
        "vae/smiles.py",
        "digits",
        {"encoder_size": "8", "hidden_size": "8", "latent_size": "3", "embed_size": "4"}
        | {"num_layers": "2"},
        classes=10,
    ),
    experiment(
        "vae/sketches.py",
        "digits",
        {"widths": "(4, 6)", "hidden": "(8,)", "latent_size": "3"},
        exceptions=CONVOLUTION,
    ),
    experiment(
        "vae/conditional_vae.py",
        "digits",
        {"hidden": "(16,)", "latent_size": "4", "free_bits": "0.2", "beta_warmup_steps": "4"}
        | {"likelihood": "learned_gaussian"},
    ),
    experiment(
        "vae/beta_tc_vae.py",
        "digits",
        {"hidden": "(16,)", "latent_size": "4", "stratified": "true"},
    ),
    experiment(
        "vae/factor_vae.py",
        "digits",
        {"widths": "()", "hidden": "(16,)", "latent_size": "4", "discriminator_hidden": "(8,)"},
    ),
    experiment(
        "vae/iwae.py",
        "digits",
        {"hidden": "(16,)", "latent_size": "4", "doubly_reparameterised": "true"},
        exceptions=HELD_FIXED,
    ),
    experiment(
        "vae/kl_autoencoder.py",
        "digits",
        {"reconstruction_steps": "3", "latent_examples": "0", "game": "non_saturating"},
        networks=latent_images.networks,
        exceptions=CONVOLUTION | HELD_FIXED,
    ),
    experiment("hybrid/vae_gan.py", "digits", {}, networks=vae_gan.networks),
    experiment("vae/vq_vae.py", "digits", {}, networks=codes.autoencoder, exceptions=HELD_FIXED),
    experiment("vae/vq_prior.py", "digits-conditional", {}, networks=codes.prior),
    experiment(
        "diffusion/ddpm.py",
        "digits",
        SMALL_UNET,
        exceptions=CONVOLUTION,
    ),
    experiment(
        "diffusion/improved_ddpm.py",
        "digits",
        SMALL_UNET | {"num_timesteps": "50", "sampling_steps": "3"},
        exceptions=CONVOLUTION | HELD_FIXED,
    ),
    experiment(
        "diffusion/adm.py",
        "digits",
        # The classifier is trained after three steps of the denoiser.
        {"warmup_steps": "4", "num_timesteps": "50", "sampling_steps": "3"}
        | {"steps": "43", "classifier_steps": "40"},
        networks=plain_guided,
        exceptions=HELD_FIXED,
    ),
    experiment(
        "diffusion/dit.py",
        "digits",
        {"patch_size": "4", "hidden_size": "16", "num_layers": "2", "num_heads": "2"}
        | {"scan_layers": "true", "warmup_steps": "4"},
    ),
    *(
        experiment(f"diffusion/{name}.py", "digits", {"warmup_steps": "4"}, networks=plain_denoiser)
        for name in ("score_sde", "edm", "flow_matching", "ncsn")
    ),
    experiment(
        "diffusion/edm.py",
        "digits",
        {"warmup_steps": "4", "augment_probability": "0.5"},
        label="augmented",
        networks=plain_denoiser,
    ),
    experiment("diffusion/mean_flow.py", "digits", SMALL_UNET, exceptions=CONVOLUTION | HELD_FIXED),
    experiment(
        "gan/dcgan.py",
        "digits",
        {"width": "4"},
        exceptions=BATCH_NORM | CONVOLUTION,
        daily=True,
    ),
    experiment(
        "gan/dcgan.py",
        "digits-conditional",
        {"width": "4", "penalty": "le_cam", "augmentation": "color_translation_cutout"}
        | {"feature_matching": "true"},
        label="conditional",
        exceptions=BATCH_NORM | CONVOLUTION,
    ),
    experiment(
        "gan/gan.py",
        "digits",
        {"hidden": "(16,)", "units": "(8,)", "dropout": "0.0", "input_dropout": "0.0"},
    ),
    experiment(
        "gan/wgan.py",
        "digits",
        {"width": "4", "critic_steps": "2"},
        exceptions=BATCH_NORM | CONVOLUTION,
    ),
    experiment(
        "gan/wgan_gp.py",
        "digits",
        {"width": "4", "critic_steps": "2", "latent_size": "4", "num_classes": "10"},
        optimizers=SLOW,
        exceptions=BATCH_NORM | CONVOLUTION | CANCELLED,
    ),
    experiment(
        "gan/r3gan.py",
        "digits",
        {"widths": "(8, 8)", "group_size": "8", "latent_size": "4"},
        exceptions=CONVOLUTION,
    ),
    experiment(
        "gan/pro_gan.py",
        "digits",
        {"width": "32", "max_width": "4", "latent_size": "4", "coverage_samples": "0"}
        | {"batch_size": str(BATCH_SIZE), "stable_images": "48", "fade_images": "32"},
        exceptions=CONVOLUTION,
    ),
    experiment(
        "gan/style_gan.py",
        "digits",
        {"width": "32", "max_width": "4", "latent_size": "4", "style_size": "4"}
        | {"mapping_layers": "1", "coverage_samples": "0", "batch_size": str(BATCH_SIZE)}
        | {"stable_images": "48", "fade_images": "32"},
        exceptions=CONVOLUTION | FLAT,
    ),
    experiment(
        "gan/style_gan2.py",
        "digits-adaptive",
        {"width": "32", "max_width": "8", "latent_size": "6", "style_size": "5"}
        | {"mapping_layers": "1", "path_shrink": "1", "path_every": "2", "r1_every": "3"},
        exceptions=CONVOLUTION,
    ),
    experiment(
        "gan/big_gan.py",
        "digits",
        {"width": "4", "label_size": "4", "latent_size": "8"},
        optimizers=SLOW,
        exceptions=BATCH_NORM | CONVOLUTION | SPECTRAL_NORM,
    ),
    experiment(
        "gan/big_gan.py",
        "digits",
        {"critic_steps": "2", "orthogonal_weight": "1e-4"},
        label="deep",
        networks=deep_blocks.networks,
        optimizers=SLOW,
        exceptions=BATCH_NORM | CONVOLUTION | SPECTRAL_NORM,
    ),
    experiment(
        "gan/modes.py",
        "digits",
        {"hidden": "(8,)", "units": "(8,)", "pack": "2"},
        exceptions=BATCH_NORM,
    ),
    experiment(
        "gan/stacked_mnist.py",
        "digits",
        {"pack": "2"},
        optimizers=FAST,
        exceptions=BATCH_NORM | CONVOLUTION,
    ),
    experiment(
        "gan/cycle_gan.py",
        "digits",
        {"pool_size": "16", "constant_steps": "2", "decay_steps": "100"},
        networks=translators.networks,
        daily=True,
    ),
    experiment(
        "gan/pix2pix.py",
        "digits",
        {"widths": "(4, 4, 4)", "discriminator_width": "4"},
        exceptions=BATCH_NORM | DROPOUT | CONVOLUTION,
    ),
    experiment(
        "gan/super_resolution.py",
        "digits",
        {"width": "4", "num_blocks": "1", "widths": "(4, 8)", "hidden_size": "8"},
        exceptions=BATCH_NORM | CONVOLUTION,
    ),
    experiment(
        "hybrid/selective_copying.py",
        "smoke",
        {"model": "s4d", "length": "4", "num_tokens": "2", "num_layers": "1"}
        | {"hidden_size": "8", "state_size": "4"},
        classes=6,
    ),
    experiment(
        "hybrid/vision_mamba.py",
        "digits",
        {"patch_size": "4", "num_layers": "1", "hidden_size": "8", "state_size": "2"}
        | {"warmup_steps": "4"},
    ),
    experiment(
        "transformer/llama.py",
        "stdlib",
        {
            "context": "8",
            "hidden_size": "16",
            "mlp_size": "24",
            "vocab_size": "32",
            "scan_layers": "true",
            "chunk": "12",
        },
        classes=32,
        daily=True,
    ),
    experiment(
        "hybrid/mamba.py",
        "stdlib",
        {"context": "8", "hidden_size": "16", "state_size": "3", "vocab_size": "32", "chunk": "12"}
        | {"scan_layers": "true"},
        classes=32,
    ),
    experiment(
        "hybrid/mamba2.py",
        "stdlib",
        {"context": "8", "hidden_size": "16", "state_size": "3", "vocab_size": "32"}
        | {"head_dim": "8", "chunk_size": "3", "num_layers": "1", "remat": "full"},
        classes=32,
    ),
    experiment(
        "transformer/decision_transformer.py",
        "smoke",
        {"hidden_size": "8", "dropout": "0.0"},
        classes=2,
    ),
    experiment(
        "transformer/decision_transformer.py",
        "pendulum-smoke",
        {"hidden_size": "8", "dropout": "0.0"},
        label="pendulum",
        classes=2,
    ),
    experiment(
        "transformer/decision_transformer.py",
        "atari-smoke",
        {"hidden_size": "8", "dropout": "0.0", "picture": "36", "context": "2"},
        label="atari",
        classes=2,
        exceptions=CONVOLUTION,
    ),
    experiment("transformer/vit.py", "digits", {"hidden_size": "16", "patch_size": "4"}),
    experiment(
        "transformer/bert.py",
        "stdlib",
        {"context": "12", "hidden_size": "16", "vocab_size": "32", "num_heads": "2"},
        classes=2,
        exceptions=SUMS,
    ),
    experiment(
        "transformer/bert_fine_tuning.py",
        "smoke-answers",
        {"context": "12", "vocab_size": "32", "dropout": "0.0"},
        classes=2,
        exceptions=SUMS,
    ),
    experiment(
        "transformer/bert_fine_tuning.py",
        "smoke-regression",
        {"context": "12", "vocab_size": "32", "dropout": "0.0"},
        label="regression",
        classes=2,
        exceptions=SUMS,
    ),
    experiment(
        "transformer/encoder_decoder.py",
        "smoke",
        {"context": "8", "target_context": "6", "hidden_size": "16"}
        | {"vocab_size": "300", "dropout": "0.0"},
        classes=32,
    ),
    experiment(
        "transformer/gpt.py",
        "stdlib",
        {"context": "8", "hidden_size": "16", "vocab_size": "32"},
        classes=32,
    ),
    experiment(
        "transformer/pixel_gpt.py", "digits", {"levels": "3", "patch": "2"}, networks=codes.pixels
    ),
    experiment(
        "transformer/gpt.py",
        "stdlib",
        {"context": "8", "hidden_size": "16", "vocab_size": "32"}
        | {"scan_layers": "true", "remat": "full", "lora.rank": "2"},
        label="lora",
        classes=32,
    ),
)
# Toys of single tests. Experiments of their kind have the rows above.
TOYS = (
    Row("cycle_gan", cycle_gan.make, cycle_gan.ELEMENT),
    Row("batch_norm_gan", batch_norm_gan.make, batch_norm_gan.ELEMENT),
    Row("stylegan2_ada", stylegan2_ada.make, stylegan2_ada.ELEMENT),
    Row("progan", progan.make, progan.ELEMENT, exceptions=CONVOLUTION),
)
BY_NAME = {row.name: row for row in (*ROWS, *TOYS)}
