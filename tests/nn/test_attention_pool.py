"""Pooling by attention against PyTorch's multi-head attention."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.nn.attention_pool import AttentionPool
from tests.parity import require


@pytest.mark.long
def test_it_is_the_attention_of_the_mean_pixel():
    [torch] = require("torch")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 2, 8)), jnp.float32)
    pool = AttentionPool(5, 2)
    shapes = jax.eval_shape(pool.init, jax.random.key(0), x)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), shapes)
    ours = jax.tree.map(np.array, params["params"])
    pixels = np.array(x).reshape(2, 6, 8)
    pixels = np.concatenate([pixels.mean(1, keepdims=True), pixels], 1) + ours["position_embedding"]
    tokens = torch.tensor(pixels).transpose(0, 1)
    parts = [ours[name] for name in ("query", "key", "value")]
    found, _ = torch.nn.functional.multi_head_attention_forward(
        query=tokens[:1],
        key=tokens,
        value=tokens,
        embed_dim_to_check=8,
        num_heads=2,
        q_proj_weight=torch.tensor(parts[0]["kernel"].T),
        k_proj_weight=torch.tensor(parts[1]["kernel"].T),
        v_proj_weight=torch.tensor(parts[2]["kernel"].T),
        in_proj_weight=None,
        in_proj_bias=torch.tensor(np.concatenate([part["bias"] for part in parts])),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=torch.tensor(ours["out"]["kernel"].T),
        out_proj_bias=torch.tensor(ours["out"]["bias"]),
        use_separate_proj_weight=True,
        need_weights=False,
    )
    np.testing.assert_allclose(pool.apply(params, x), found[0].numpy(), rtol=1e-4, atol=1e-5)


def test_heads_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(GenaxError, match="8 channels do not divide into 3 heads"):
        AttentionPool(5, 3).init(jax.random.key(0), jnp.zeros((1, 2, 2, 8)))
