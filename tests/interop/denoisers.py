"""Denoisers of diffusers, for the table of agreement."""

from __future__ import annotations

import numpy as np

from tests.interop.case import BATCH, Case

# Both ends and the middle of a schedule of 1000 steps.
TIMES = np.array([0, 517, 999])


def noisy(rng, config):
    shape = (BATCH, config.sample_size, config.sample_size, config.in_channels)
    return rng.normal(size=shape).astype(np.float32)


def classified(rng, config):
    # The last label is that of no condition.
    labels = np.array([0, config.num_embeds_ada_norm - 1, config.num_embeds_ada_norm])
    return {"hidden_states": noisy(rng, config), "timestep": TIMES, "class_labels": labels}


def unet(rng, config):
    """Inputs: labels if the network takes them, noise levels if it has random frequencies."""
    fourier = config.time_embedding_type == "fourier"
    times = np.array([0.7, 3.0, 40.0], np.float32) if fourier else TIMES
    given = {"sample": noisy(rng, config), "timestep": times}
    if config.num_class_embeds is None:
        return given
    return given | {"class_labels": rng.integers(0, config.num_class_embeds, BATCH)}


def conditional(rng, config):
    """Inputs: a text with some padding, labels and a whole text, as the network takes them."""
    given = {"sample": noisy(rng, config), "timestep": TIMES}
    states = rng.normal(size=(BATCH, 5, config.cross_attention_dim)).astype(np.float32)
    mask = np.ones((BATCH, 5), np.int64)
    mask[1, 3:] = 0
    given |= {"encoder_hidden_states": states, "encoder_attention_mask": mask}
    if config.num_class_embeds is not None:
        given["class_labels"] = rng.integers(0, config.num_class_embeds, BATCH)
    if config.addition_embed_type is not None:
        sizes = rng.integers(0, 1024, (BATCH, 2))
        rest = config.projection_class_embeddings_input_dim - 2 * config.addition_time_embed_dim
        text = rng.normal(size=(BATCH, rest)).astype(np.float32)
        given["added_cond_kwargs"] = {"text_embeds": text, "time_ids": sizes}
    return given


SKIPS = {"in_channels": 3, "out_channels": 3, "norm_num_groups": None}
SKIPS |= {"mid_block_scale_factor": 2**0.5, "norm_eps": 1e-6}
CASES = (
    Case(
        "DiTTransformer2DModel",
        None,
        (
            {"num_attention_heads": 3, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8}
            | {"in_channels": 3, "out_channels": 6, "patch_size": 2, "num_embeds_ada_norm": 5},
            {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 3, "sample_size": 6}
            | {"in_channels": 1, "patch_size": 3, "num_embeds_ada_norm": 2, "norm_eps": 1e-3},
            {"num_attention_heads": 4, "attention_head_dim": 5, "num_layers": 1, "sample_size": 8}
            | {"in_channels": 4, "out_channels": 8, "patch_size": 4, "num_embeds_ada_norm": 3},
        ),
        classified,
        ("sample",),
        copies=lambda model: [block.norm1.emb for block in model.transformer_blocks],
    ),
    Case(
        "UNet2DModel",
        None,
        (
            # DDPM: a single head, padding behind, sines first.
            {"downsample_padding": 0, "freq_shift": 1, "flip_sin_to_cos": False}
            | {"attention_head_dim": None, "norm_eps": 1e-6, "layers_per_block": 2}
            | {"down_block_types": ["DownBlock2D", "AttnDownBlock2D"]}
            | {"up_block_types": ["AttnUpBlock2D", "UpBlock2D"]},
            # ADM: adaptive group norm, resolution changed in residual blocks, labels, variances.
            {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4}
            | {"downsample_type": "resnet", "upsample_type": "resnet", "out_channels": 6}
            | {"down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"]}
            | {"up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"]}
            | {"num_class_embeds": 5},
            # diffusers' defaults, three resolutions, input in [0, 1], attention nowhere.
            {"block_out_channels": [8, 16, 24], "center_input_sample": True, "in_channels": 1}
            | {"down_block_types": ["DownBlock2D"] * 3, "up_block_types": ["UpBlock2D"] * 3},
            # NCSN++: skips, random frequencies, with attention and without.
            SKIPS
            | {"time_embedding_type": "fourier", "block_out_channels": [32, 128]}
            | {"down_block_types": ["SkipDownBlock2D", "AttnSkipDownBlock2D"]}
            | {"up_block_types": ["AttnSkipUpBlock2D", "SkipUpBlock2D"]}
            | {"attention_head_dim": 128},
            SKIPS
            | {"time_embedding_type": "fourier", "block_out_channels": [8, 16, 24]}
            | {
                "down_block_types": ["SkipDownBlock2D"] * 3,
                "up_block_types": ["SkipUpBlock2D"] * 3,
            },
            SKIPS
            | {"freq_shift": 1, "flip_sin_to_cos": False, "layers_per_block": 2}
            | {"down_block_types": ["SkipDownBlock2D"] * 2, "up_block_types": ["SkipUpBlock2D"] * 2}
            | {"num_class_embeds": 3},
        ),
        unet,
        ("sample",),
        {"sample_size": 8, "block_out_channels": [16, 32], "layers_per_block": 1}
        | {"norm_num_groups": 4, "attention_head_dim": 8},
    ),
    Case(
        "UNet2DConditionModel",
        None,
        (
            # Stable Diffusion 1: the same number of heads, convolutions around Transformers.
            {"down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"]}
            | {"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "attention_head_dim": 2},
            # Stable Diffusion 2: heads of one width, linear layers around Transformers; labels.
            {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "layers_per_block": 2}
            | {"up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "attention_head_dim": [1, 4]}
            | {"use_linear_projection": True, "num_class_embeds": 3, "out_channels": 8}
            | {"norm_eps": 1e-6, "downsample_padding": 0, "flip_sin_to_cos": False},
            # Stable Diffusion XL: several blocks in a Transformer, a whole text and sizes.
            {"down_block_types": ["CrossAttnDownBlock2D"] * 2, "sample_size": 4}
            | {"up_block_types": ["CrossAttnUpBlock2D"] * 2, "attention_head_dim": [2, 4]}
            | {"transformer_layers_per_block": [1, 2], "use_linear_projection": True}
            | {"addition_embed_type": "text_time", "addition_time_embed_dim": 6}
            | {"projection_class_embeddings_input_dim": 19},
        ),
        conditional,
        ("sample",),
        {"sample_size": 8, "block_out_channels": [16, 32], "layers_per_block": 1}
        | {"norm_num_groups": 4, "cross_attention_dim": 12},
    ),
)
