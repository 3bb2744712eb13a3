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
)
