"""BLEU and ROUGE of generated texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from genax.core import Evaluator, GenaxError
from genax.core.task import Batch
from genax.data.text.text_pairs import TextPairs

_HINT = 'needs {}: python -m pip install -e ".[text]".'


def bleu_scores(
    write: Callable[[Any, Batch], Any], data: TextPairs, examples: int | None
) -> Evaluator:
    """BLEU of the corpus (Papineni et al. 2002), 0 to 100, by sacrebleu with its defaults.

    The scores are "bleu", and "copy_bleu", that of the unchanged sources.

    write: (nets, batch) -> tokens [b, t], the targets found for batch["source"].
    data: the data of the evaluation.
    examples: number of examples to read. None means all.
    """

    def score(found: list[str], truths: list[str], sources: list[str]) -> Mapping[str, float]:
        try:
            import sacrebleu
        except ImportError as error:
            raise GenaxError("BLEU " + _HINT.format("sacrebleu")) from error
        return {
            "bleu": sacrebleu.corpus_bleu(found, [truths]).score,
            "copy_bleu": sacrebleu.corpus_bleu(sources, [truths]).score,
        }

    return _text_scores(write, data, examples, score)


def rouge_scores(
    write: Callable[[Any, Batch], Any], data: TextPairs, examples: int | None
) -> Evaluator:
    """F of ROUGE-1, -2 and -L (Lin 2004), 0 to 100, by rouge-score with stemming.

    The scores are "rouge1", "rouge2" and "rougeL". With the prefix "lead_" they are those of the
    source's first words, as many as the right text has.

    write, data, examples: see `bleu_scores`.
    """

    def score(found: list[str], truths: list[str], sources: list[str]) -> Mapping[str, float]:
        try:
            from rouge_score.rouge_scorer import RougeScorer
        except ImportError as error:
            raise GenaxError("ROUGE " + _HINT.format("rouge-score")) from error
        kinds = ["rouge1", "rouge2", "rougeL"]
        scorer = RougeScorer(kinds, use_stemmer=True)

        def means(texts: Iterable[str]) -> Mapping[str, float]:
            scored = [scorer.score(*pair) for pair in zip(truths, texts, strict=True)]
            return {
                kind: 100 * float(np.mean([s[kind].fmeasure for s in scored])) for kind in kinds
            }

        pairs = zip(sources, truths, strict=True)
        lead = means(" ".join(source.split()[: len(truth.split())]) for source, truth in pairs)
        return {**means(found), **{f"lead_{kind}": value for kind, value in lead.items()}}

    return _text_scores(write, data, examples, score)


def _text_scores(write, data: TextPairs, examples, score) -> Evaluator:
    def rows(nets: Any, batch: Batch) -> Mapping[str, Any]:
        return {"tokens": write(nets, batch), "index": batch["index"]}

    def summarize(found: Mapping[str, np.ndarray], workdir: Any) -> Mapping[str, float]:
        texts = data.opened(workdir).get_tokenizer().decode_all(found["tokens"])
        rights = [data.examples[number] for number in found["index"]]
        truths = [example[data.target] for example in rights]
        return score(texts, truths, [example[data.source] for example in rights])

    return Evaluator(rows, summarize, examples)
