"""Beam search that stops early, and its n best, are Marian's, scores too."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.interop import load_pretrained
from genax.transformer.beam_search import beam_search
from tests.interop.agreement import CASES, make_reference
from tests.parity import require

NEW, BEAMS, END, BATCH = 8, 3, 7, 4


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    [torch] = require("torch")
    case = next(case for case in CASES if case.name == "MarianMTModel")
    reference = make_reference(case, case.sizes[0])
    with torch.no_grad():
        # Ends are likely enough that beams end at all lengths.
        reference.final_logits_bias[0, END] = 2.0
    folder = tmp_path_factory.mktemp("marian")
    reference.save_pretrained(folder)
    return reference, *load_pretrained(folder)


@pytest.mark.long
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("length_penalty", [1.0, 0.6, 2.0, 0.0, -2.0])
def test_the_n_best_are_marian_s(early_stopping, length_penalty, pair):
    [torch] = require("torch")
    reference, module, variables = pair
    rng = np.random.default_rng(5)
    source = rng.integers(2, 41, (BATCH, 6))
    mask = (np.arange(6) < np.array([[6], [2], [4], [5]])).astype(np.int64)
    expected = reference.generate(
        input_ids=torch.from_numpy(source),
        attention_mask=torch.from_numpy(mask),
        num_beams=BEAMS,
        num_return_sequences=BEAMS,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=END,
        output_scores=True,
        return_dict_in_generate=True,
    )

    def search(model, source, mask):
        net = model.transformer
        start = jnp.full((len(source), 1), model.start_token)
        memory = {"memory": net.encode(source, mask), "memory_mask": mask}
        how = {"early_stopping": early_stopping, "num_best": BEAMS}
        return beam_search(net, start, NEW, BEAMS, END, length_penalty, **how, **memory)

    run = jax.jit(nn.apply(search, module))
    found, scores = run(variables, jnp.asarray(source), jnp.asarray(mask > 0))
    theirs = expected.sequences.numpy()[:, 1:]
    theirs = np.pad(theirs, ((0, 0), (0, NEW - theirs.shape[1])))
    # Where padding is number 0, transformers fills with the end.
    theirs[(theirs == END).cumsum(1) - (theirs == END) > 0] = 0
    np.testing.assert_array_equal(found.reshape(-1, NEW), theirs)
    np.testing.assert_allclose(scores.reshape(-1), expected.sequences_scores, rtol=1e-5)
    lengths = (np.asarray(found) != 0).sum(-1)
    assert lengths.min() < NEW
