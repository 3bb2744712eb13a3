"""The raw format of llama2.c, against transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.interop.llama2c import load_llama2c
from tests.cli.command import succeed
from tests.parity import require

VOCAB, CONTEXT = 41, 16


def write(path, model, kv_heads, tied):
    """What llama2.c's export writes: rows of queries and keys by neighbouring pairs."""
    config = model.config
    size = config.hidden_size // config.num_attention_heads
    inner = model.model

    def stack(name):
        layers = inner.layers
        return [layer.get_submodule(name).weight.detach().numpy() for layer in layers]

    def neighbours(rows):
        halves = rows.reshape(-1, 2, size // 2, rows.shape[1]).swapaxes(1, 2)
        return halves.reshape(rows.shape)

    header = [config.hidden_size, config.intermediate_size, config.num_hidden_layers]
    header += [config.num_attention_heads, kv_heads, VOCAB if tied else -VOCAB, CONTEXT]
    arrays = [inner.embed_tokens.weight.detach().numpy(), *stack("input_layernorm")]
    arrays += [neighbours(rows) for rows in stack("self_attn.q_proj")]
    arrays += [neighbours(rows) for rows in stack("self_attn.k_proj")]
    names = ("self_attn.v_proj", "self_attn.o_proj", "post_attention_layernorm")
    for name in (*names, "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"):
        arrays += stack(name)
    arrays += [inner.norm.weight.detach().numpy(), np.zeros((2, CONTEXT, size // 2))]
    if not tied:
        arrays.append(model.lm_head.weight.detach().numpy())
    content = np.array(header, "<i4").tobytes()
    content += b"".join(array.astype("<f4").tobytes() for array in arrays)
    path.write_bytes(content + b"tokenizer")


@pytest.mark.parametrize(("kv_heads", "tied"), [(3, True), (1, False)])
def test_agrees_with_transformers(kv_heads, tied, tmp_path):
    torch, transformers = require("torch", "transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=kv_heads,
        vocab_size=VOCAB,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
        rms_norm_eps=1e-5,
        initializer_range=0.3,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    path = tmp_path / "model.bin"
    write(path, model, kv_heads, tied)
    module, variables = load_llama2c(path)
    tokens = np.random.default_rng(0).integers(0, VOCAB, (2, CONTEXT))
    ours = jax.jit(module.apply)(variables, jnp.asarray(tokens)).logits
    theirs = model(torch.from_numpy(tokens)).logits.detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)

    succeed("import", path, tmp_path / "run")
    succeed("export", tmp_path / "run", tmp_path / "out")
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out").eval()
    found = again(torch.from_numpy(tokens)).logits.detach().numpy()
    np.testing.assert_allclose(found, theirs, rtol=1e-5, atol=1e-5)

    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(GenaxError, match="ends before its weights do"):
        load_llama2c(path)
    path.write_bytes(b"no header")
    with pytest.raises(GenaxError, match=r"no llama2.c file"):
        load_llama2c(path)


@pytest.mark.parametrize(
    ("width", "heads", "kv_heads", "said"),
    [
        (27, 3, 3, "3 heads of 9 at width 27 are odd"),
        (24, 3, 2, "3 heads and 2 key heads do not divide"),
        (24, 5, 5, "width 24, 5 heads and 5 key heads do not divide"),
        (2**30, 2**10, 2**10, "ends before its weights do"),
        (24, -3, 3, "its header is"),
    ],
)
def test_headers_that_make_no_model(width, heads, kv_heads, said, tmp_path):
    layers = 2**30 if width == 2**30 else 1
    header = np.array([width, 40, layers, heads, kv_heads, VOCAB, CONTEXT], "<i4")
    path = tmp_path / "model.bin"
    path.write_bytes(header.tobytes() + bytes(200_000))
    with pytest.raises(GenaxError, match=said):
        load_llama2c(path)
