"""Devlin et al. 2018, BERT (arXiv:1810.04805), fine-tuned: sections 4.1, 4.2 and 5.3.

A pretrained encoder and a new head: classes of texts, numbers of texts or pairs, named entities, or
answers as spans of a context. The variant cpu fine-tunes all-MiniLM-L6-v2 on 2,000 film reviews,
for or against. SQuAD 2.0 is base-answers with --config.dataset=tfds:squad/v2.0.

    genax import DIR runs/minilm          the Hugging Face directory of all-MiniLM-L6-v2
    genax data prepare imdb
    genax train experiments/transformer/bert_fine_tuning.py --workdir runs/imdb
    genax sample runs/imdb --prompt "A wonderful film."

Without a prompt, the first test examples are shown with what was found in them and the truth.
Entities take a sentence, pairs "TEXT || SECOND", answers "QUESTION || CONTEXT".

Entities need seqeval: pip install -e ".[text]".

Two CPU cores that were shared: cpu 20 minutes, test accuracy 84.7%; entities 17 minutes, F1 85.0
(seed 0). Alone, the cores take 1.3 s a step.
"""

from functools import partial

import jax.numpy as jnp

from genax.core import Evaluator, Experiment, GenaxError, Phase, Stage, Task, base_config
from genax.core.ranges import COUNT, Range
from genax.data.text.answer_spans import AnswerSpans
from genax.data.text.classified_text import ClassifiedText
from genax.data.text.examples import CONLL_LABELS
from genax.data.text.scored_text import ScoredText
from genax.data.text.tagged_text import TaggedText
from genax.evaluation.answers import answer_scores
from genax.evaluation.entities import entity_scores
from genax.evaluation.regression import regression_scores
from genax.nn.optimizers import adamw, warmup_linear
from genax.nn.placement import PARTITION_RULES
from genax.transformer.bert import BERT, BERT_PRESETS, LinearHead
from genax.transformer.ranges import RANGES as TRANSFORMER
from genax.transformer.tasks.fine_tuning import (
    Networks,
    RegressionNetworks,
    SpanNetworks,
    class_loss,
    regression_loss,
    regression_values,
    span_logits,
    span_loss,
    tag_logits,
    tag_loss,
)
from genax.transformer.tasks.predictions import (
    answer_finder,
    class_finder,
    entity_finder,
    value_finder,
)

VARIANTS = {
    "cpu": "2,000 film reviews in minutes on two cores, from all-MiniLM-L6-v2",
    "entities": "CoNLL-2003's named entities in minutes on two cores, from all-MiniLM-L6-v2",
    "answers": "arguments of the standard library's functions, embedded, from all-MiniLM-L6-v2",
    "smoke-classes": "functions or methods, embedded, from scratch: for tests, seconds",
    "smoke-regression": "the same functions by a number, 1 for a method: for tests, seconds",
    "smoke-answers": "the variant answers from scratch: for tests, seconds",
    **{
        f"{size}-{task}": f"{about} by TFDS, from BERT {size}"
        for size in ("base", "large")
        for task, about in (
            ("classes", "SST-2"),
            ("regression", "STS-B"),
            ("entities", "CoNLL-2003"),
            ("answers", "SQuAD 1.1"),
        )
    },
}
RANGES = {
    **TRANSFORMER,
    "task": ("classes", "regression", "entities", "answers"),
    "null_threshold": Range(),
    "num_labels": COUNT,
    "positions": COUNT,
}
EMBEDDINGS = ("token_embedding", "position_embedding", "segment_embedding", "embedding_norm")


def get_config(variant="cpu"):
    """Settings of a variant.

    task: "classes", "regression", "entities" or "answers". pretrained: what `genax import` wrote,
    whose encoder and tokenizer are taken, or "" for none. text, label: names in the data's
    examples. second: name of the other text of a pair, for a regression, or "" for none.
    null_threshold: a question has no answer if that scores better than the best span by more.
    examples, evaluated: only so many, 0 for all. positions: of the encoder, at least context.
    """
    config = base_config(
        task="classes",
        dataset="imdb",
        text="text",
        second="",
        label="label",
        num_labels=2,
        null_threshold=0.0,
        test_split="test",
        examples=2_000,
        evaluated=2_000,
        pretrained="runs/minilm",
        positions=512,
        context=128,
        **_sizes("minilm"),
        dropout=0.1,
        learning_rate=1e-4,
        warmup_steps=20,
        decay_steps=190,
        weight_decay=0.01,
        batch_size=32,
        steps=190,
        log_every=10,
        checkpoint_every=100,
        sample_every=0,
        num_samples=8,
        eval_batch_size=50,
    )
    entities = {
        "task": "entities",
        "dataset": "conll2003",
        "text": "words",
        "label": "labels",
        "num_labels": len(CONLL_LABELS),
        "examples": 0,
        "evaluated": 0,
        "context": 64,
        "learning_rate": 3e-4,
        "decay_steps": 440,
        "steps": 440,
    }
    answers = {
        "task": "answers",
        "dataset": "stdlib_signatures",
        "test_split": "validation",
        "examples": 0,
        "evaluated": 500,
        "context": 256,
        "batch_size": 16,
        "decay_steps": 200,
        "steps": 200,
    }
    smoke = {
        "pretrained": "",
        "vocab_size": 512,
        "hidden_size": 16,
        "num_layers": 1,
        "num_heads": 2,
        "positions": 64,
        "context": 64,
        "examples": 64,
        "evaluated": 16,
        "eval_batch_size": 8,
        "num_samples": 2,
        "batch_size": 8,
        "steps": 20,
    }
    classes = {
        "dataset": "stdlib_summaries",
        "text": "code",
        "label": "method",
        "test_split": "validation",
    }
    settings = {
        "cpu": {},
        "entities": entities,
        "answers": answers,
        "smoke-classes": classes | smoke,
        "smoke-regression": {"task": "regression", "num_labels": 1} | classes | smoke,
        "smoke-answers": answers | smoke,
    }
    config.update(settings[variant] if variant in settings else _published(variant))
    return config


def _sizes(name):
    preset = BERT_PRESETS[name]
    fields = ("vocab_size", "hidden_size", "num_layers", "num_heads")
    return {field: getattr(preset, field) for field in fields}


def _published(variant):
    """Sizes by the preset table; the rest is Devlin et al. 2018, appendix A.3 and section 4.2."""
    size, _, task = variant.partition("-")
    data = {
        "classes": {
            "dataset": "tfds:glue/sst2",
            "text": "sentence",
            "test_split": "validation",
            "learning_rate": 2e-5,
            "steps": 3 * 67_349 // 32,
        },
        "regression": {
            "dataset": "tfds:glue/stsb",
            "text": "sentence1",
            "second": "sentence2",
            "num_labels": 1,
            "test_split": "validation",
            "learning_rate": 2e-5,
            "steps": 3 * 5_749 // 32,
        },
        "entities": {
            "dataset": "tfds:conll2003",
            "text": "tokens",
            "label": "ner",
            "num_labels": len(CONLL_LABELS),
            "learning_rate": 5e-5,
            "steps": 3 * 14_042 // 32,
        },
        "answers": {
            "dataset": "tfds:squad",
            "test_split": "validation",
            "context": 384,
            "learning_rate": 5e-5,
            "steps": 3 * 87_599 // 32,
        },
    }[task]
    return {
        "task": task,
        "pretrained": f"runs/bert-{size}",
        **_sizes(size),
        **data,
        "examples": 0,
        "evaluated": 0,
        "dtype": "bfloat16",
        "parallel": {"topology": "v5e:2x2"},
        "warmup_steps": data["steps"] // 10,
        "decay_steps": data["steps"],
    }


def _classes(config, data):
    names = {"text": config.text, "label": config.label, "classes": config.num_labels}
    return partial(ClassifiedText, **data, **names), class_loss, lambda test: {}, class_finder


def _regression(config, data):
    def scores(test):
        return {"regression": regression_scores(regression_values)}

    names = {"text": config.text, "second": config.second, "label": config.label}
    return partial(ScoredText, **data, **names), regression_loss, scores, value_finder


def _entities(config, data):
    def scores(test):
        return {"entities": entity_scores(tag_logits, CONLL_LABELS)}

    finder = partial(entity_finder, names=CONLL_LABELS)
    names = {"words": config.text, "labels": config.label, "classes": config.num_labels}
    return partial(TaggedText, **data, **names), tag_loss, scores, finder


def _answers(config, data):
    def scores(test):
        return {"answers": answer_scores(span_logits, test, threshold=config.null_threshold)}

    finder = partial(answer_finder, threshold=config.null_threshold)
    return partial(AnswerSpans, **data), span_loss, scores, finder


# Outputs of a head that are no matter of choice.
OUTPUTS = {"regression": 1, "entities": len(CONLL_LABELS), "answers": 2}
PARTS = {
    "classes": _classes,
    "regression": _regression,
    "entities": _entities,
    "answers": _answers,
}
NETWORKS = {"regression": RegressionNetworks, "answers": SpanNetworks}


def build(config):
    """The experiment that the settings describe."""
    settings = {
        "name": config.dataset,
        "context": config.context,
        "vocab_size": config.vocab_size,
        "pretrained": config.pretrained,
    }
    outputs = OUTPUTS.get(config.task, config.num_labels)
    if config.num_labels != outputs:
        raise GenaxError(
            f"config.num_labels={config.num_labels} does not fit config.task={config.task!r}, "
            f"whose head has {outputs} outputs; set it to {outputs}."
        )
    data, loss, scores, finder = PARTS[config.task](config, settings)
    train = data(limit=config.examples or None)
    test = data(split=config.test_split, limit=config.evaluated or None)
    # As in the published code: what is of single tokens has no pooler.
    with_pooler = config.task in ("classes", "regression")
    encoder = BERT(
        config.vocab_size,
        config.positions,
        config.hidden_size,
        config.num_layers,
        config.num_heads,
        with_pooler=with_pooler,
        dropout=config.dropout,
        remat=config.remat,
        dtype=jnp.dtype(config.dtype),
    )
    head = LinearHead(config.num_labels, config.dropout, dtype=jnp.dtype(config.dtype))
    schedule = warmup_linear(config.learning_rate, config.warmup_steps, config.decay_steps)
    optimizer = adamw(schedule, config.weight_decay, b2=0.999, eps=1e-6)
    task = Task(
        NETWORKS.get(config.task, Networks)(encoder, head),
        [Stage([Phase("bert", loss, ("encoder", "classifier"), optimizer)])],
        samplers={"found": finder(test)},
        evaluators={"test": Evaluator(partial(loss, train=False)), **scores(test)},
        rules=PARTITION_RULES,
    )
    taken = [*EMBEDDINGS, *(f"blocks_{number}" for number in range(config.num_layers))]
    taken += ["pooler"] if with_pooler else []
    paths = {f"params/encoder/{part}": f"params/encoder/{part}" for part in taken}
    pretrained = {config.pretrained: paths} if config.pretrained else {}
    return Experiment(task, train, test, pretrained)
