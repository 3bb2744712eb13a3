"""FID of samples beside the time that the extractor alone needs for them.

    python -m benchmarks.fid [--examples 10000] [--extractor inception|classifier] [--batch 250]

Samples are uniform noise, which costs nothing to draw, of Fashion-MNIST's shape. "extractor" is the
time of its compiled features, measured on 5 batches and scaled to all images. "evaluation" is that
of `genax.running.evaluate.evaluate` with every score, once the features of the data are in the
cache. It is compiled before the clock starts.
"""

from __future__ import annotations

import argparse
import time

import jax

from genax.core import per_example
from genax.core.task import Batch
from genax.data import ImageData
from genax.evaluation.extractors import pixels
from genax.evaluation.fidelity import fidelity
from genax.evaluation.image_classifier import image_classifier
from genax.evaluation.inception import inception
from genax.running.evaluate import evaluate
from genax.running.sampling import variables
from tests.core.toys import line_state, line_task

MEASURED = 5


def noise(nets, batch: Batch) -> jax.Array:
    """Uniform noise for each example."""
    return per_example(jax.random.uniform, nets, batch, (28, 28, 1)) * 2 - 1


def main() -> None:
    """Print seconds, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--extractor", default="inception", choices=("inception", "classifier"))
    parser.add_argument("--batch", type=int, default=250)
    args = parser.parse_args()
    train, test = ImageData("fashion_mnist"), ImageData("fashion_mnist", "test")
    extractor = inception() if args.extractor == "inception" else image_classifier(train, test)
    arrays = jax.device_put(extractor.given(None))
    compute = jax.jit(lambda arrays, images: extractor.features(arrays, pixels(images)))
    images = jax.random.uniform(jax.random.key(0), (args.batch, 28, 28, 1)) * 2 - 1
    compute(arrays, images).block_until_ready()
    began, spent = time.perf_counter(), time.process_time()
    for _ in range(MEASURED):
        compute(arrays, images).block_until_ready()
    share = args.examples / (MEASURED * args.batch)
    alone = (time.perf_counter() - began) * share
    alone_spent = (time.process_time() - spent) * share

    task = line_task(evaluators={"noise": fidelity(noise, [extractor], train, test, args.examples)})
    values = variables(jax.jit(lambda: line_state(task))())
    evaluate(task, values, None, args.batch, None)  # compiles, and fills the cache
    began, spent = time.perf_counter(), time.process_time()
    scores = evaluate(task, values, None, args.batch, None)
    whole, whole_spent = time.perf_counter() - began, time.process_time() - spent
    print(f"extractor: {alone:.1f} s, {alone_spent:.1f} s of processors")
    print(f"evaluation: {whole:.1f} s, {whole_spent:.1f} s of processors")
    print(f"ratio: {whole / alone:.2f}, of processor time {whole_spent / alone_spent:.2f}")
    print(", ".join(f"{name} {score:.4g}" for name, score in scores.items()))


if __name__ == "__main__":
    main()
