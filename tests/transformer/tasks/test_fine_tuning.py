"""The heads' losses are those of the published heads."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core.gradients import sums_of
from genax.interop import load_pretrained
from genax.interop.bert import (
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from genax.interop.families import ARCHITECTURES
from genax.transformer.bert import BERT, LinearHead
from genax.transformer.tasks import fine_tuning
from tests.interop.agreement import CASES, make_reference
from tests.parity import compare, require

RNG = np.random.default_rng(0)
LENGTH = 12
REAL = np.arange(LENGTH) < np.array([[12], [7], [3], [9]])
BATCH = {
    "tokens": jnp.asarray(RNG.integers(1, 30, (4, LENGTH)), jnp.int32),
    "real": jnp.asarray(REAL),
    "segments": jnp.asarray(np.where(REAL & (np.arange(LENGTH) > 1), 1, 0), jnp.int32),
    "label": jnp.array([0, 2, 1, 1]),
    "labels": jnp.asarray(np.where(REAL, RNG.integers(-1, 3, REAL.shape), -1), jnp.int32),
    "start": jnp.array([1, 0, 2, 4]),
    "end": jnp.array([5, 0, 2, 8]),
}
INPUTS = {
    "input_ids": BATCH["tokens"],
    "attention_mask": BATCH["real"].astype(jnp.int32),
}
HEADS = {
    "class_loss": (3, BertForSequenceClassification, {"labels": BATCH["label"]}),
    "tag_loss": (
        3,
        BertForTokenClassification,
        {"labels": jnp.where(BATCH["labels"] < 0, -100, BATCH["labels"])},
    ),
    "span_loss": (
        2,
        BertForQuestionAnswering,
        {
            "start_positions": BATCH["start"],
            "end_positions": BATCH["end"],
            "token_type_ids": BATCH["segments"],
        },
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", HEADS)
def test_as_the_imported_model_has_it(name):
    labels, model, inputs = HEADS[name]
    encoder = BERT(30, LENGTH, 16, 2, 2, with_pooler=name == "class_loss", dropout=0.1)
    networks = fine_tuning.Networks(encoder, LinearHead(labels, 0.1))

    def loss(nets, batch):
        return getattr(fine_tuning, name)(nets, batch, train=False)

    variables = nn.init(loss, networks)({"params": jax.random.key(0)}, BATCH)
    total, weight = sums_of(nn.apply(loss, networks)(variables, BATCH))["loss"]
    theirs = model(encoder, LinearHead(labels)).apply(variables, **INPUTS, **inputs)
    # Published code lets padding be an answer's end, which the loss here leaves out.
    if name == "span_loss":
        logits = jnp.stack([theirs.start_logits, theirs.end_logits])
        logits = jax.nn.log_softmax(jnp.where(BATCH["real"], logits, -jnp.inf))
        rows = jnp.arange(4)
        expected = -(logits[0, rows, BATCH["start"]] + logits[1, rows, BATCH["end"]]).mean() / 2
    else:
        expected = theirs.loss
    np.testing.assert_allclose(total / weight, expected, rtol=1e-5)


def test_a_regression_as_transformers_has_it(tmp_path):
    """Values, loss, gradients and a step of AdamW at the weights of its class."""
    [torch] = require("torch")
    case = next(case for case in CASES if case.name == "BertForSequenceClassification")
    head = {"num_labels": 1, "problem_type": "regression"}
    model = make_reference(case, case.sizes[0] | head)
    model.save_pretrained(tmp_path)
    module, variables = load_pretrained(tmp_path)
    networks = fine_tuning.RegressionNetworks(module.encoder, module.classifier)
    batch = BATCH | {"label": jnp.array([0.9, 2.7, -1.5, 5.0])}

    def both(nets):
        loss = fine_tuning.regression_loss(nets, batch, train=False)
        return loss, fine_tuning.regression_values(nets, batch)

    def ours(params):
        loss, values = nn.apply(both, networks)({"params": params})
        total, weight = sums_of(loss)["loss"]
        return total / weight, (values,)

    names = {"input_ids": "tokens", "attention_mask": "real", "token_type_ids": "segments"}
    inputs = {name: torch.from_numpy(np.array(batch[ours])).long() for name, ours in names.items()}
    theirs = model(**inputs, labels=torch.from_numpy(np.array(batch["label"])))
    conversions = ARCHITECTURES[case.name].conversions(module)
    found = compare(
        ours, variables["params"], conversions, model, theirs.loss, (theirs.logits[:, 0],)
    )
    limits = {"outputs": 1e-5, "loss": 1e-5, "gradients": 1e-4, "AdamW step": 1e-5}
    assert all(found[what] < limit for what, limit in limits.items()), found
