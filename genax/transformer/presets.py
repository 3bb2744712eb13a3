"""The published sizes of Transformers."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class GPTPreset:
    """One row of a paper's table of models.

    batch_tokens: tokens in a batch. learning_rate: its peak; None where it is not published.
    params: parameters, tied head and learned positions counted once.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    context: int
    batch_tokens: int
    learning_rate: float | None
    params: int
    vocab_size: int = 50257


# GPT-2: Radford et al. 2019, table 2 and section 2.3 (batch of 512 x 1024 tokens; learning rates
# were tuned by hand and are not given). The paper's parameter counts (117M, 345M, 762M, 1542M) are
# too low, which OpenAI's release notes correct (124M, 355M, 774M, 1558M).
# GPT-3: Brown et al. 2020, table 2.1. Two rows of it contradict themselves: XL prints 24 heads of
# 128 at width 2048 (here 16 heads, n_heads * d_head = d_model), and 13B prints width 5140, which 40
# heads of 128 do not give (here 5120, whose count is that of the paper's appendix D). Batches are
# powers of two, as tokens of "0.5M" to "2M", and 1,536 sequences of 2,048 tokens for "3.2M".
# GPT-1: Radford et al. 2018, section 4.1 (batch of 64 x 512 tokens, 40,000 merges); the published
# weights have 40,478 tokens.
GPT_PRESETS = {
    "gpt1": GPTPreset(12, 768, 12, 512, 2**15, 2.5e-4, 116_534_784, 40478),
    "gpt2": GPTPreset(12, 768, 12, 1024, 2**19, None, 124_439_808),
    "gpt2-medium": GPTPreset(24, 1024, 16, 1024, 2**19, None, 354_823_168),
    "gpt2-large": GPTPreset(36, 1280, 20, 1024, 2**19, None, 774_030_080),
    "gpt2-xl": GPTPreset(48, 1600, 25, 1024, 2**19, None, 1_557_611_200),
    "gpt3-small": GPTPreset(12, 768, 12, 2048, 2**19, 6.0e-4, 125_226_240),
    "gpt3-medium": GPTPreset(24, 1024, 16, 2048, 2**19, 3.0e-4, 355_871_744),
    "gpt3-large": GPTPreset(24, 1536, 16, 2048, 2**19, 2.5e-4, 760_300_032),
    "gpt3-xl": GPTPreset(24, 2048, 16, 2048, 2**20, 2.0e-4, 1_315_723_264),
    "gpt3-2.7b": GPTPreset(32, 2560, 32, 2048, 2**20, 1.6e-4, 2_651_553_280),
    "gpt3-6.7b": GPTPreset(32, 4096, 32, 2048, 2**21, 1.2e-4, 6_658_404_352),
    "gpt3-13b": GPTPreset(40, 5120, 40, 2048, 2**21, 1.0e-4, 12_853_386_240),
    "gpt3-175b": GPTPreset(96, 12288, 96, 2048, 1536 * 2048, 0.6e-4, 174_604_259_328),
}


@dataclass(frozen=True)
class LLaMAPreset:
    """A row of Grattafiori et al. 2024, table 3, with the context and rotary base of section 3.2.

    mlp_size: table 3's "FFN Dimension". learning_rate: its peak. params: parameters, head and
    embedding both counted. long_context: whether the frequencies are stretched, as from Llama 3.1.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    mlp_size: int
    learning_rate: float
    params: int
    context: int = 8192
    vocab_size: int = 128_256
    theta: float = 500_000.0
    long_context: bool = False


_8B = LLaMAPreset(32, 4096, 32, 8, 14_336, 3e-4, 8_030_261_248)
_70B = LLaMAPreset(80, 8192, 64, 8, 28_672, 1.5e-4, 70_553_706_496)
LLAMA_PRESETS = {
    "llama3-8b": _8B,
    "llama3-70b": _70B,
    "llama3.1-8b": replace(_8B, context=131_072, long_context=True),
    "llama3.1-70b": replace(_70B, context=131_072, long_context=True),
}


@dataclass(frozen=True)
class BERTPreset:
    """A row of Devlin et al. 2018, section 3.

    params: of the encoder with its pooler. pretraining: with both heads of pretraining.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    params: int
    pretraining: int
    context: int = 512
    vocab_size: int = 30_522


# minilm: the sizes of all-MiniLM-L6-v2, distilled as Wang et al. 2020 have it (arXiv:2002.10957).
BERT_PRESETS = {
    "base": BERTPreset(12, 768, 12, 109_482_240, 110_106_428),
    "large": BERTPreset(24, 1024, 16, 335_141_888, 336_226_108),
    "minilm": BERTPreset(6, 384, 12, 22_713_216, 22_893_116),
}


@dataclass(frozen=True)
class EncoderDecoderPreset:
    """A row of Vaswani et al. 2017, table 3, with the vocabulary of section 5.1.

    params: without biases in attention, as in the paper's published code.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    mlp_size: int
    dropout: float
    steps: int
    params: int
    vocab_size: int = 37_000


ENCODER_DECODER_PRESETS = {
    "base": EncoderDecoderPreset(6, 512, 8, 2048, 0.1, 100_000, 63_045_632),
    "big": EncoderDecoderPreset(6, 1024, 16, 4096, 0.3, 300_000, 214_171_648),
}


@dataclass(frozen=True)
class T5Preset:
    """A row of Raffel et al. 2020, section 3.7. num_layers: of each of both stacks."""

    num_layers: int
    hidden_size: int
    num_heads: int
    head_dim: int
    mlp_size: int
    params: int
    vocab_size: int = 32_128


T5_PRESETS = {"base": T5Preset(12, 768, 12, 64, 3072, 222_903_552)}


@dataclass(frozen=True)
class ViTPreset:
    """A row of Dosovitskiy et al. 2021, table 1 (B, L, H), or Touvron et al. 2021, table 1 (Ti, S).

    params: with 1000 classes at 224 x 224.
    """

    patch_size: int
    num_layers: int
    hidden_size: int
    num_heads: int
    params: int


VIT_PRESETS = {
    "ti16": ViTPreset(16, 12, 192, 3, 5_717_416),
    "s16": ViTPreset(16, 12, 384, 6, 22_050_664),
    "b16": ViTPreset(16, 12, 768, 12, 86_567_656),
    "l16": ViTPreset(16, 24, 1024, 16, 304_326_632),
    "h14": ViTPreset(14, 32, 1280, 16, 632_045_800),
}


@dataclass(frozen=True)
class DecisionTransformerPreset:
    """An agent of Chen et al. 2021: tables 8 (Atari) and 9 (Gym) with the published code's sizes.

    environment, data: gymnasium's and TensorFlow Datasets' names. state_size: 0 for pictures.
    context: triples. max_steps: timesteps with an embedding. targets: returns asked
    for. anchors: returns of a random player and of an expert (Gym: D4RL's, Fu et al. 2020) or of a
    gamer (Atari), 0 and 100 in the paper's scores. params: see below.
    """

    environment: str
    data: str
    state_size: int
    action_size: int
    num_layers: int
    num_heads: int
    context: int
    max_steps: int
    batch_size: int
    learning_rate: float
    targets: tuple[float, ...]
    anchors: tuple[float, float]
    params: int
    hidden_size: int = 128


# Gym: as transformers' DecisionTransformerModel counts them, with its GPT-2 trunk's table of one
# token, which nothing reads, and of 1024 positions, of which the first alone is read.
# Atari: as kzl/decision-transformer has them, with a table of tokens which nothing reads. Its table
# of timesteps has as many rows as the longest episode of the 500,000 transitions drawn; here 2,720.
DECISION_TRANSFORMER_PRESETS = {
    "hopper": DecisionTransformerPreset(
        "Hopper-v5",
        "tfds:d4rl_mujoco_hopper/v2-medium",
        *(11, 3, 3, 1, 20, 1000, 64, 1e-4),
        targets=(3600.0, 1800.0),
        anchors=(-20.272305, 3234.3),
        params=858_767,
    ),
    "halfcheetah": DecisionTransformerPreset(
        "HalfCheetah-v5",
        "tfds:d4rl_mujoco_halfcheetah/v2-medium",
        *(17, 6, 3, 1, 20, 1000, 64, 1e-4),
        targets=(12_000.0, 6_000.0),
        anchors=(-280.178953, 12_135.0),
        params=861_080,
    ),
    "breakout": DecisionTransformerPreset(
        "ALE/Breakout-v5",
        "tfds:rlu_atari/Breakout_run_1",
        *(0, 4, 6, 8, 30, 2720, 128, 6e-4),
        targets=(90.0,),
        anchors=(2.0, 30.0),
        params=2_031_008,
    ),
    "pong": DecisionTransformerPreset(
        "ALE/Pong-v5",
        "tfds:rlu_atari/Pong_run_1",
        *(0, 6, 6, 8, 50, 2720, 512, 6e-4),
        targets=(20.0,),
        anchors=(-21.0, 15.0),
        params=2_039_456,
    ),
}
