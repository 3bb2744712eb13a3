"""AUROC of each class of a labelled set as the normal one, against all others.

    python -m benchmarks.anomaly_classes OUT.jsonl [--experiment FILE:VARIANT] [KEY=VALUE ...]

Each class trains a run of its own, in a temporary folder, and adds a line to OUT.jsonl. Those that
are there are not trained again. At the end the table is printed, with the mean over the classes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import genax
from genax.data.fields import Label, label_of
from genax.data.sets.named import open_set
from genax.settings.files import to_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--experiment", default="experiments/vae/anomaly.py:fashion")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    args = parser.parse_args()
    changes = dict(setting.split("=", 1) for setting in args.settings)
    experiment = genax.load(args.experiment)
    fields = open_set(experiment.config(changes).dataset).fields
    label = fields[label_of(fields) or "label"]
    assert isinstance(label, Label)
    found = {}
    if args.out.exists():
        lines = map(json.loads, args.out.read_text().splitlines())
        found = {line["normal"]: line for line in lines}
    for normal in range(label.classes or 0):
        if normal not in found:
            with tempfile.TemporaryDirectory() as folder:
                run = genax.train(experiment, folder, {**changes, "normal": f"({normal},)"})
                found[normal] = {"normal": normal, **run.evaluate()}
            with args.out.open("a") as file:
                file.write(to_json(found[normal]) + "\n")
    scores = [name for name in next(iter(found.values())) if name.endswith("/auroc")]
    print("| normal class | " + " | ".join(name.split("/")[1] for name in scores) + " |")
    print("|---|" + "---|" * len(scores))
    for normal, line in sorted(found.items()):
        print(f"| {normal} | " + " | ".join(f"{line[name]:.4f}" for name in scores) + " |")
    means = [sum(line[name] for line in found.values()) / len(found) for name in scores]
    print("| mean | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")


if __name__ == "__main__":
    main()
