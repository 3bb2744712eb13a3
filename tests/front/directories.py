"""Small Hugging Face directories with tokenizers, as transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from genax.data.sets.embedded import load_stdlib
from genax.data.text.tokenizer_training import train_tokenizer
from genax.data.text.tokenizers import Subwords
from tests.parity import require

CHAT = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
TEXTS = load_stdlib()["validation"][:20]


def byte_pairs(size: int, specials: list[str], before: str = "") -> Any:
    """Return a byte-level BPE of `tokenizers`; `before` is a special token before each text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    model.train_from_iterator(TEXTS, trainer)
    if before:
        number = model.token_to_id(before)
        model.post_processor = processors.TemplateProcessing(
            single=f"{before} $A", special_tokens=[(before, number)]
        )
    return model


def make_gpt2(folder: Path) -> Path:
    """Write a GPT-2 of two layers and 48 positions."""
    torch, transformers = require("torch", "transformers")
    name = "<|endoftext|>"
    model = byte_pairs(300, [name])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, eos_token=name, bos_token=name
    ).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"n_positions": 48, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_inner": 40}
    config = transformers.GPT2Config(
        vocab_size=model.get_vocab_size(), **sizes, bos_token_id=0, eos_token_id=0
    )
    _with_large_weights(transformers.GPT2LMHeadModel(config)).save_pretrained(folder)
    return folder


def make_llama(folder: Path) -> Path:
    """Write a LLaMA with grouped heads, rotary scaling, two end tokens and a chat template."""
    torch, transformers = require("torch", "transformers")
    model = byte_pairs(300, ["<s>", "</s>", "<eot>"], before="<s>")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    rotary = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    config = transformers.LlamaConfig(
        vocab_size=model.get_vocab_size(),
        max_position_embeddings=48,
        rope_parameters=rotary,
        **sizes,
        **heads,
        bos_token_id=0,
        eos_token_id=[1, 2],
    )
    _with_large_weights(transformers.LlamaForCausalLM(config)).save_pretrained(folder)
    return folder


def _with_large_weights(model: Any, factor: float = 8) -> Any:
    """Return a model whose likeliest outputs are far ahead of the others, in any arithmetic."""
    (torch,) = require("torch")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
    return model.eval()


def change_json(path: Path, **fields: Any) -> None:
    """Set fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def end_likeliest(folder: Path, prompt: str) -> str:
    """Let the model's own likeliest continuation end, and return the prompt with it.

    The last of its tokens that was not there before becomes an end token.
    """
    torch, transformers = require("torch", "transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokens = tokenizer(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        row = model.generate(
            tokens, do_sample=False, max_new_tokens=30, eos_token_id=-1, pad_token_id=0
        )[0].tolist()
    first = tokens.shape[1]
    at = max(at for at in range(first + 1, len(row)) if row[at] not in row[first:at])
    for name in ("config.json", "generation_config.json"):
        old = json.loads((folder / name).read_text())["eos_token_id"]
        ends = [row[at], *old[1:]] if isinstance(old, list) else row[at]
        change_json(folder / name, eos_token_id=ends)
    return tokenizer.decode(row[:at])


SMALL_BERT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
    "layer_norm_eps": 1e-5,
}


def make_bert(folder: Path, kind: str = "BertModel", **settings: Any) -> Path:
    """Write one of the classes around BERT, with a WordPiece tokenizer."""
    torch, transformers = require("torch", "transformers")
    made = train_tokenizer("wordpiece", TEXTS, 400)
    assert isinstance(made, Subwords)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    names |= {"sep_token": "[SEP]", "mask_token": "[MASK]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=made.model, **names).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=made.size, **SMALL_BERT, **settings)
    model = getattr(transformers, kind)(config)
    _with_large_weights(model, 4).save_pretrained(folder)
    return folder


def make_t5(folder: Path) -> Path:
    """Write a gated T5 of unequal stacks, with a Unigram tokenizer and T5's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    torch, transformers = require("torch", "transformers")
    model = Tokenizer(models.Unigram())
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    model.decoder = decoders.Metaspace()
    specials = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=specials, unk_token="<unk>", show_progress=False
    )
    model.train_from_iterator(TEXTS, trainer)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3}
    config = transformers.T5Config(
        vocab_size=model.get_vocab_size() + 8,
        num_decoder_layers=1,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=20,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        **sizes,
    )
    _with_large_weights(transformers.T5ForConditionalGeneration(config), 1).save_pretrained(folder)
    return folder


def make_vit(folder: Path, num_labels: int = 10) -> Path:
    """Write a ViT for grey images of 8x8 whose classes have names."""
    torch, transformers = require("torch", "transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = transformers.ViTConfig(
        **sizes,
        intermediate_size=40,
        image_size=8,
        patch_size=4,
        num_channels=1,
        id2label={number: f"digit {number}" for number in range(num_labels)},
    )
    _with_large_weights(transformers.ViTForImageClassification(config), 4).save_pretrained(folder)
    return folder
