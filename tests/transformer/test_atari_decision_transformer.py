"""The Decision Transformer for Atari against the published architecture in PyTorch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, tree
from genax.transformer.atari_decision_transformer import AtariDecisionTransformer, stack_frames
from genax.transformer.cross_entropy import cross_entropy
from genax.transformer.decision_transformer import DECISION_TRANSFORMER_PRESETS
from tests import experiments
from tests.parity import require, stepped

torch, functional = require("torch", "torch.nn.functional")

ACTIONS, WIDTH, LAYERS, HEADS, CONTEXT, STEPS = 5, 24, 2, 3, 4, 30


def gpt(width, heads):
    """The parts of a block of GPT."""
    linear = torch.nn.Linear
    return torch.nn.ModuleDict(
        {
            "before_attention": torch.nn.LayerNorm(width),
            **{name: linear(width, width) for name in ("query", "key", "value", "output")},
            "before_mlp": torch.nn.LayerNorm(width),
            "expand": linear(width, 4 * width),
            "contract": linear(4 * width, width),
        }
    )


class Reference(torch.nn.Module):
    """kzl/decision-transformer's agent for Atari, written anew from its description."""

    def __init__(self, actions, width, layers, heads, context, steps):
        super().__init__()
        nn, self.heads = torch.nn, heads
        self.unread = nn.Embedding(actions, width)
        self.position = nn.Parameter(torch.zeros(3 * context + 1, width))
        self.time = nn.Parameter(torch.zeros(steps, width))
        self.conv = nn.ModuleList(
            [nn.Conv2d(4, 32, 8, 4), nn.Conv2d(32, 64, 4, 2), nn.Conv2d(64, 64, 3, 1)]
        )
        self.state, self.reward = nn.Linear(3136, width), nn.Linear(1, width)
        self.action = nn.Embedding(actions, width)
        self.blocks = nn.ModuleList([gpt(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, actions, bias=False)

    def forward(self, returns, states, actions, timestep):
        """returns [b, k, 1], states [b, k, 4, 84, 84] in [0, 1], timestep [b]: the first's."""
        b, k = actions.shape
        x = states.flatten(0, 1)
        for conv in self.conv:
            x = conv(x).relu()
        tokens = [
            self.reward(returns).tanh(),
            self.state(x.flatten(1)).tanh().unflatten(0, (b, k)),
            self.action(actions).tanh(),
        ]
        x = torch.stack(tokens, 2).flatten(1, 2)
        x = x + self.position[: 3 * k] + self.time[timestep][:, None]
        for block in self.blocks:
            y = block["before_attention"](x)
            parts = [
                block[name](y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for name in ("query", "key", "value")
            ]
            y = functional.scaled_dot_product_attention(*parts, is_causal=True)
            x = x + block["output"](y.transpose(1, 2).flatten(2))
            x = x + block["contract"](functional.gelu(block["expand"](block["before_mlp"](x))))
        return self.head(self.norm(x))[:, 1::3]


def as_ours(tensors, heads=HEADS):
    """Parameters (or gradients) by name as genax has them; absent where theirs is None."""

    def get(name):
        tensor = tensors[name]
        return None if tensor is None else tensor.detach().numpy().copy()

    def dense(name, shape=None):
        kernel = get(f"{name}.weight").T
        found = {"kernel": kernel if shape is None else kernel.reshape(shape)}
        if f"{name}.bias" in tensors:
            found["bias"] = get(f"{name}.bias")
        return found

    def norm(name):
        return {"scale": get(f"{name}.weight"), "bias": get(f"{name}.bias")}

    width = get("norm.weight").shape[0]
    linear = get("state.weight").reshape(width, 64, 7, 7).transpose(2, 3, 1, 0)
    params = {
        "embed_position": get("position"),
        "embed_timestep": get("time"),
        "embed_return": dense("reward"),
        "embed_action": {"embedding": get("action.weight")},
        "embed_state": {
            "linear": {"kernel": linear.reshape(3136, width), "bias": get("state.bias")},
            **{
                f"conv_{number}": {
                    "kernel": get(f"conv.{number}.weight").transpose(2, 3, 1, 0),
                    "bias": get(f"conv.{number}.bias"),
                }
                for number in range(3)
            },
        },
        "final_norm": norm("norm"),
        "predict_action": dense("head"),
    }
    if get("unread.weight") is not None:
        params["unread_tokens"] = get("unread.weight")
    number = 0
    while f"blocks.{number}.query.weight" in tensors:
        block = f"blocks.{number}"
        qkv = [dense(f"{block}.{name}") for name in ("query", "key", "value")]
        params[f"blocks_{number}"] = {
            "attention_norm": norm(f"{block}.before_attention"),
            "attention": {
                "qkv": {
                    "kernel": np.stack([p["kernel"] for p in qkv], 1).reshape(width, 3, heads, -1),
                    "bias": np.stack([p["bias"] for p in qkv]).reshape(3, heads, -1),
                },
                "output": dense(f"{block}.output", (heads, -1, width)),
            },
            "feed_forward_norm": norm(f"{block}.before_mlp"),
            "feed_forward": {
                "expand": dense(f"{block}.expand"),
                "output": dense(f"{block}.contract"),
            },
        }
        number += 1
    return params


@pytest.fixture(scope="module")
def pair():
    """Theirs with weights that are nowhere as initialised, and ours with the same."""
    torch.manual_seed(0)
    theirs = Reference(ACTIONS, WIDTH, LAYERS, HEADS, CONTEXT, STEPS)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
        for table in (theirs.position, theirs.time, theirs.norm.weight):
            table.add_(0.3 * torch.randn_like(table))
    ours = AtariDecisionTransformer(ACTIONS, WIDTH, LAYERS, HEADS, CONTEXT, STEPS)
    params = jax.tree.map(jnp.array, as_ours(dict(theirs.named_parameters())))
    return theirs, ours, params


def batch(steps=CONTEXT):
    rng, b = np.random.default_rng(0), 3
    return {
        "returns": rng.uniform(0, 3, (b, steps, 1)).astype(np.float32),
        "frames": rng.integers(0, 256, (b, steps + 3, 84, 84)).astype(np.uint8),
        "actions": rng.integers(0, ACTIONS, (b, steps)).astype(np.int32),
        "timesteps": (np.array([0, 7, STEPS - steps])[:, None] + np.arange(steps)).astype(np.int32),
    }


def reference(theirs, arrays):
    frames = arrays["frames"]
    steps = range(frames.shape[1] - 3)
    states = np.stack([frames[:, step : step + 4] for step in steps], 1)
    return theirs(
        torch.from_numpy(arrays["returns"]),
        torch.from_numpy(states).float() / 255,
        torch.from_numpy(arrays["actions"]).long(),
        torch.from_numpy(arrays["timesteps"][:, 0]).long(),
    )


@pytest.mark.long
def test_outputs_gradients_and_a_step(pair):
    theirs, ours, params = pair
    arrays = batch()
    expected = reference(theirs, arrays)
    assert expected.detach().numpy().std() > 0.1

    def loss(params):
        logits = ours.apply({"params": params}, *map(jnp.asarray, arrays.values()))
        return cross_entropy(logits, jnp.asarray(arrays["actions"])).mean(), logits

    (value, logits), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    np.testing.assert_allclose(logits, expected.detach().numpy(), atol=1e-5, rtol=1e-5)
    total = functional.cross_entropy(
        expected.flatten(0, 1), torch.from_numpy(arrays["actions"]).long().flatten()
    )
    np.testing.assert_allclose(value, total.item(), rtol=1e-5)

    theirs.zero_grad()
    total.backward()
    grads = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    wanted = tree.flatten(as_ours(grads))
    found = tree.flatten(gradient)
    assert found.keys() - wanted.keys() == {"unread_tokens"}
    assert not found["unread_tokens"].any()
    for path, array in wanted.items():
        scale = np.abs(array).max()
        assert scale > 0, path
        np.testing.assert_allclose(found[path], array, atol=1e-4 * scale, err_msg=path)

    # The published optimizer, given the same gradients: Linear and Conv2d's weights decay.
    module = experiments.load("experiments/transformer/decision_transformer.py")
    config = experiments.config_of(module, "breakout")
    decayed, kept = [], []
    for name, parameter in theirs.named_parameters():
        table = name.startswith(("unread", "action", "position", "time"))
        plain = table or name.endswith("bias") or "norm" in name or "before" in name
        (kept if plain else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    rate = config.learning_rate / config.warmup_steps
    optimizer = torch.optim.AdamW(groups, rate, betas=(0.9, 0.95))
    torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
    optimizer.step()
    trained = {path: array for path, array in params.items() if path != "unread_tokens"}
    gradient = {path: tree.unflatten(wanted, trained)[path] for path in trained}
    moved = tree.flatten(stepped(module.optimizer_of(config), gradient, trained))
    after = tree.flatten(as_ours(dict(theirs.named_parameters())))
    for path, array in moved.items():
        np.testing.assert_allclose(array, after[path], atol=1e-6, err_msg=path)


@pytest.mark.long
def test_short_histories_are_padded(pair):
    theirs, ours, _ = pair
    params = jax.tree.map(jnp.array, as_ours(dict(theirs.named_parameters())))
    arrays, missing = batch(2), CONTEXT - 2
    expected = reference(theirs, arrays).detach().numpy()
    padded = {
        name: jnp.pad(array, [(0, 0), (missing, 0)] + [(0, 0)] * (array.ndim - 2), mode="edge")
        for name, array in arrays.items()
    }
    mask = jnp.arange(CONTEXT)[None].repeat(3, 0) >= missing
    found = ours.apply({"params": params}, *padded.values(), mask)[:, missing:]
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    plain = ours.apply({"params": params}, *map(jnp.asarray, arrays.values()))
    np.testing.assert_allclose(plain, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["breakout", "pong"])
def test_published_sizes(name):
    preset = DECISION_TRANSFORMER_PRESETS[name]
    with torch.device("meta"):
        model = Reference(
            preset.action_size,
            preset.hidden_size,
            preset.num_layers,
            preset.num_heads,
            preset.context,
            preset.max_steps,
        )
    assert sum(parameter.numel() for parameter in model.parameters()) == preset.params


def test_frames_are_stacked_newest_last():
    frames = jnp.arange(6, dtype=jnp.uint8)[None, :, None, None]
    stacked = stack_frames(frames, 4)
    np.testing.assert_array_equal(stacked[0, :, 0, 0], [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("actions", ACTIONS, f"action {ACTIONS} at"), ("timesteps", STEPS, f"timestep {STEPS} at")],
)
def test_an_action_or_a_timestep_that_is_not_there(pair, name, value, said):
    """It is an error where it can be seen, and never a plausible output."""
    _, ours, params = pair
    arrays = {key: jnp.asarray(array) for key, array in batch(CONTEXT).items()}
    arrays[name] = arrays[name].at[0, 0].set(value)
    with pytest.raises(GenaxError, match=f"AtariDecisionTransformer: {said}"):
        ours.apply({"params": params}, *arrays.values())
    found = jax.jit(ours.apply)({"params": params}, *arrays.values())
    assert np.isnan(found[0, -1]).all()
    assert np.isfinite(found[1:]).all()


def test_too_long_a_window(pair):
    _, ours, params = pair
    arrays = batch(CONTEXT + 1)
    with pytest.raises(GenaxError, match="5 steps with 8 frames; the context holds 4"):
        ours.apply({"params": params}, *map(jnp.asarray, arrays.values()))
