"""Devlin et al. 2018, BERT (arXiv:1810.04805), fine-tuned: sections 4.1, 4.2 and 5.3.

A pretrained encoder gets a new head: for classes of texts, numbers of texts or pairs, named
entities, or answers as spans of a context. The variant cpu fine-tunes all-MiniLM-L6-v2 to tell
2,000 film reviews that praise from those that do not. SQuAD 2.0 is base-answers with
--config.dataset=tfds:squad/v2.0.

    genax import DIR runs/minilm          the Hugging Face directory of all-MiniLM-L6-v2
    genax data prepare imdb
    genax train experiments/transformer/bert_fine_tuning.py --workdir runs/imdb
    genax sample runs/imdb --prompt "A wonderful film."

Without a prompt, the first test examples are shown with what was found in them and the truth. A
prompt is a sentence for entities, "TEXT || SECOND" for pairs, "QUESTION || CONTEXT" for answers.

Entities need seqeval: pip install -e ".[text]".

Two CPU cores that were shared: cpu 20 minutes, test accuracy 84.7%; entities 17 minutes, F1 85.0
(seed 0). Alone, the cores take 1.3 s a step.
"""

from functools import partial

from genax.core import Evaluator, Experiment, GenaxError, Phase, Stage, Task
from genax.data import given_or
from genax.data.text.answer_spans import AnswerSpans
from genax.data.text.classified_text import ClassifiedText
from genax.data.text.examples import CONLL_LABELS
from genax.data.text.scored_text import ScoredText
from genax.data.text.tagged_text import TaggedText
from genax.evaluation.answers import answer_scores
from genax.evaluation.entities import entity_scores
from genax.evaluation.regression import regression_scores
from genax.nn.lora import SETTINGS as LORA
from genax.nn.lora import adaptable
from genax.nn.optimizers import bert_adamw
from genax.nn.placement import PARTITION_RULES
from genax.settings import NetworkSettings, Variant, from_config, start_from
from genax.settings.ranges import COUNT, Range
from genax.transformer.bert import BERT, BERT_PRESETS, LinearHead, encoder_parts
from genax.transformer.settings import RANGES as TRANSFORMER
from genax.transformer.settings import network, sizes
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

DEFAULTS = sizes(BERT_PRESETS["minilm"]) | {
    **LORA,
    # "classes", "regression", "entities" or "answers".
    "task": "classes",
    "dataset": "imdb",
    "test_split": "test",
    # Names in the data's examples: a text, the other text of a pair ("" for none), and the label.
    "text": "text",
    "second": "",
    "label": "label",
    "num_labels": 2,
    # A question has no answer if that scores better than the best span by more than this.
    "null_threshold": 0.0,
    # How many examples are trained on, and how many are scored; 0 is all.
    "examples": 2_000,
    "evaluated": 2_000,
    # A run, or what `genax import` wrote, whose encoder, sizes and tokenizer are taken; "" is none.
    "pretrained": "runs/minilm",
    # Whether the head starts anew. If not, it is taken too.
    "new_head": True,
    # Positions of the encoder, at least as many as the context's.
    "positions": 512,
    "context": 128,
    "dropout": 0.1,
    "learning_rate": 1e-4,
    "warmup_steps": 20,
    "decay_steps": 190,
    "weight_decay": 0.01,
    "batch_size": 32,
    "steps": 190,
    "log_every": 10,
    "checkpoint_every": 100,
    "sample_every": 0,
    "num_samples": 8,
    "eval_batch_size": 50,
}
ENTITIES = {
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
ANSWERS = {
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
# Functions or methods.
METHODS = {
    "dataset": "stdlib_summaries",
    "text": "code",
    "label": "method",
    "test_split": "validation",
}
SMOKE = {
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
# The paper's tasks, three epochs of each.
PUBLISHED = {
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
}


def published_task(size, task):
    """Return the settings of a paper's size and task: appendix A.3 and section 4.2."""
    steps = PUBLISHED[task]["steps"]
    return {
        **sizes(BERT_PRESETS[size]),
        "context": 128,
        **PUBLISHED[task],
        "task": task,
        "pretrained": f"runs/bert-{size}",
        "examples": 0,
        "evaluated": 0,
        "dtype": "bfloat16",
        "parallel": {"topology": "v5e:2x2"},
        "warmup_steps": steps // 10,
        "decay_steps": steps,
    }


VARIANTS = {
    "cpu": Variant("2,000 film reviews in minutes on two cores, from all-MiniLM-L6-v2"),
    "entities": Variant(
        "CoNLL-2003's named entities in minutes on two cores, from all-MiniLM-L6-v2", ENTITIES
    ),
    "answers": Variant(
        "arguments of the standard library's functions, embedded, from all-MiniLM-L6-v2", ANSWERS
    ),
    "smoke-classes": Variant(
        "functions or methods, embedded, from scratch: for tests, seconds", METHODS | SMOKE
    ),
    "smoke-regression": Variant(
        "the same functions by a number, 1 for a method: for tests, seconds",
        {"task": "regression", "num_labels": 1} | METHODS | SMOKE,
    ),
    "smoke-answers": Variant(
        "the variant answers from scratch: for tests, seconds", ANSWERS | SMOKE
    ),
    **{
        f"{size}-{task}": Variant(f"{about} by TFDS, from BERT {size}", published_task(size, task))
        for size in ("base", "large")
        for task, about in (
            ("classes", "SST-2"),
            ("regression", "STS-B"),
            ("entities", "CoNLL-2003"),
            ("answers", "SQuAD 1.1"),
        )
    },
}
RANGES = TRANSFORMER | {
    "task": ("classes", "regression", "entities", "answers"),
    "null_threshold": Range(),
    "num_labels": COUNT,
    "positions": COUNT,
}
NETWORK = NetworkSettings("encoder", BERT, {"context": "positions"}, own=("with_pooler",))


def _classes(config):
    data = partial(from_config, ClassifiedText, config, classes=config.num_labels)
    return data, class_loss, lambda test: {}, class_finder


def _regression(config):
    def scores(test):
        return {"regression": regression_scores(regression_values)}

    return partial(from_config, ScoredText, config), regression_loss, scores, value_finder


def tagged_text(config):
    """Return the data of entities, without what differs between training and test."""
    parts = {"words": config.text, "labels": config.label, "classes": config.num_labels}
    return partial(from_config, TaggedText, config, **parts)


def tag_names(config):
    """Return the names of the words' labels: the data's own, or else those of CoNLL-2003."""
    return tagged_text(config)(name=config.dataset).class_names or CONLL_LABELS


def _entities(config):
    names = tag_names(config)

    def scores(test):
        return {"entities": entity_scores(tag_logits, names)}

    return tagged_text(config), tag_loss, scores, partial(entity_finder, names=names)


def _answers(config):
    def scores(test):
        return {"answers": answer_scores(span_logits, test, threshold=config.null_threshold)}

    finder = partial(answer_finder, threshold=config.null_threshold)
    return partial(from_config, AnswerSpans, config), span_loss, scores, finder


# The outputs of heads that leave no choice.
OUTPUTS = {"regression": 1, "answers": 2}
# What each task has of its own: data, a loss, scores, and a finder for samples.
PARTS = {
    "classes": _classes,
    "regression": _regression,
    "entities": _entities,
    "answers": _answers,
}
NETWORKS = {"regression": RegressionNetworks, "answers": SpanNetworks}


@adaptable("classifier")
def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    outputs = OUTPUTS.get(config.task, config.num_labels)
    if config.task == "entities":
        outputs = len(tag_names(config))
    if config.num_labels != outputs:
        raise GenaxError(
            f"config.num_labels={config.num_labels} does not fit config.task={config.task!r}, "
            f"whose head has {outputs} outputs; set it to {outputs}."
        )
    texts, loss, scores, finder = PARTS[config.task](config)
    own = partial(texts, name=config.dataset, limit=config.examples or None)
    held_out = partial(own, split=config.test_split, limit=config.evaluated or None)
    train, test = given_or(data, lambda: (own(), held_out()))
    # As in the published code, the heads of single tokens have no pooler.
    with_pooler = config.task in ("classes", "regression")
    encoder = network(BERT, config, with_pooler=with_pooler)
    networks = NETWORKS.get(config.task, Networks)
    task = Task(
        networks(encoder=encoder, classifier=from_config(LinearHead, config)),
        stages=[
            Stage([Phase("bert", loss, ("encoder", "classifier"), from_config(bert_adamw, config))])
        ],
        samplers={"found": finder(test)},
        evaluators={"test": Evaluator(partial(loss, train=False)), **scores(test)},
        rules=PARTITION_RULES,
    )
    taken = encoder_parts(encoder) + (() if config.new_head else ("classifier",))
    return Experiment(task, train, test, start_from(config, *taken))
