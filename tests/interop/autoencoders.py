"""Autoencoders of diffusers, for the table of agreement."""

from __future__ import annotations

import numpy as np

from tests.interop.case import BATCH, Case

SIDE = 8


def images(rng, config):
    shape = (BATCH, SIDE, SIDE, config.in_channels)
    return {"sample": rng.normal(size=shape).astype(np.float32)}


def blocks(*attends):
    """Blocks of resolutions with and without attention, the first that of images."""
    kinds = ["Attn" if attend else "" for attend in attends]
    return {
        "down_block_types": [f"{kind}DownEncoderBlock2D" for kind in kinds],
        "up_block_types": [f"{kind}UpDecoderBlock2D" for kind in reversed(kinds)],
        "norm_num_groups": 4,
    }


CASES = (
    Case(
        "AutoencoderKL",
        None,
        (
            # Stable Diffusion 1 and 2.
            blocks(False, False) | {"block_out_channels": [8, 16]},
            # Stable Diffusion 3: more channels of latents, no convolutions around them.
            blocks(False, False)
            | {"block_out_channels": [8, 8], "latent_channels": 6, "shift_factor": 0.1}
            | {"use_quant_conv": False, "use_post_quant_conv": False, "scaling_factor": 1.5},
            # Attention at all resolutions and not in the middle, of grey images.
            blocks(True, True)
            | {"block_out_channels": [12, 24], "in_channels": 1, "out_channels": 1}
            | {"mid_block_add_attention": False, "latent_channels": 2},
        ),
        images,
        ("sample",),
    ),
    Case(
        "VQModel",
        None,
        (
            blocks(False, False) | {"block_out_channels": [8, 16], "num_vq_embeddings": 11},
            blocks(True, False)
            | {"block_out_channels": [8, 24], "vq_embed_dim": 5, "num_vq_embeddings": 30},
            blocks(False)
            | {"block_out_channels": [16], "in_channels": 1, "out_channels": 1}
            | {"layers_per_block": 2, "latent_channels": 2, "mid_block_add_attention": False},
        ),
        images,
        ("sample", "commit_loss"),
    ),
)
