"""Fingerprints that follow code and values, and nothing else."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import subprocess
import sys
import threading
import types
from dataclasses import dataclass

import jax
import numpy as np
import pytest

from genax.core.errors import GenaxError
from genax.data import ImageData
from genax.data.code_fingerprint import fingerprint_value

SOURCE = """
import functools
import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

STRENGTH = 0.5
NAMES = {"image", "label", "mask", "id"}


def helper(image, rng):
    return image + STRENGTH * rng.normal(size=image.shape)


def noise(example, rng, *, scale=1.0, table=None):
    names = {name for name in example if name in NAMES}
    return {**example, "image": scale * helper(example["image"], rng), "names": names}


def closed(amount):
    return lambda example, rng: {**example, "image": example["image"] + amount}


@dataclass(frozen=True)
class Shift:
    amount: int
    limit = 3

    @cached_property
    def table(self):
        return np.arange(self.amount)

    def __call__(self, example, rng):
        return {**example, "image": self.change(example["image"])}

    def change(self, image):
        return np.roll(image, self.amount)


class Table:
    def __init__(self, values):
        self.values = values

    def __call__(self, example, rng):
        return {**example, "image": example["image"] + self.values}


def outer(example, rng):
    def inner(image):
        return [pixel * 2 for pixel in image]

    return {**example, "image": inner(example["image"])}


def recursive(example, rng, depth=2):
    return example if not depth else recursive(example, rng, depth - 1)


VALUES = {
    "function": noise,
    "partial": functools.partial(noise, scale=2.0, table=np.arange(3)),
    "lambda": lambda example, rng: example,
    "closure": closed(2),
    "object": Shift(1),
    "method": Shift(1).change,
    "recursive": recursive,
    "array": Table(np.arange(4.0)),
    "nested": outer,
    "set": functools.partial(noise, table={"a", "b", "c", (1, "d")}),
    "others": (re.compile("a+"), np.clip, len, np.add, "".join, str.upper, np.float32(1), slice(3)),
}
"""


def values(source: str = SOURCE) -> dict:
    # Dataclasses look up their module.
    module = sys.modules["user"] = types.ModuleType("user")
    exec(compile(source, "user.py", "exec", dont_inherit=True), module.__dict__)
    return module.__dict__["VALUES"]


def prints(source: str = SOURCE) -> dict[str, str]:
    return {name: fingerprint_value(value) for name, value in values(source).items()}


def test_the_same_at_every_start_wherever_the_code_stands(tmp_path):
    path = tmp_path / "elsewhere.py"
    path.write_text("# one\n" * 70 + SOURCE)
    script = (
        "import json, pathlib, sys\n"
        "from genax.front.files import import_file\n"
        "from genax.data.code_fingerprint import fingerprint_value\n"
        "found = import_file(pathlib.Path(sys.argv[1])).VALUES\n"
        "print(json.dumps({name: fingerprint_value(value) for name, value in found.items()}))\n"
    )
    outputs = []
    for seed in "01":
        command = [sys.executable, "-c", script, str(path)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert json.loads(outputs[0]) == prints()


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("STRENGTH = 0.5", "STRENGTH = 0.25", {"function", "partial", "set"}),
        ("image + STRENGTH", "image - STRENGTH", {"function", "partial", "set"}),
        ('"mask", "id"}', '"mask"}', {"function", "partial", "set"}),
        ("scale=1.0", "scale=1", {"function", "partial", "set"}),
        ("scale=2.0", "scale=3.0", {"partial"}),
        ("table=np.arange(3)", "table=np.arange(4)", {"partial"}),
        ('"c", (1, "d")', '"c", (1, "e")', {"set"}),
        ("example, rng: example,", "example, rng: None,", {"lambda"}),
        ("closed(2)", "closed(3)", {"closure"}),
        ('"object": Shift(1)', '"object": Shift(2)', {"object"}),
        ("limit = 3", "limit = 4", {"object", "method"}),
        ("np.roll(image, self", "np.roll(image, -self", {"object", "method"}),
        ("depth=2", "depth=3", {"recursive"}),
        ("np.arange(4.0)", "np.arange(5.0)", {"array"}),
        ("np.arange(4.0)", "np.arange(4)", {"array"}),
        ("+ self.values", "- self.values", {"array"}),
        ("pixel * 2", "pixel * 3", {"nested"}),
        ("inner(example", "list(example", {"nested"}),
        ("np.clip", "np.mean", {"others"}),
        ("# none", "# none", set()),
    ],
)
def test_it_follows_code_and_values(old, new, changed):
    before, after = prints(), prints(SOURCE.replace(old, new))
    assert {name for name in before if before[name] != after[name]} == changed


def test_using_a_value_does_not_change_it():
    for name, value in values().items():
        before = fingerprint_value(value)
        if callable(value):
            for _ in range(100):
                try:
                    value({"image": np.zeros((2, 2))}, np.random.default_rng(0))
                except (TypeError, ValueError):
                    assert name in ("partial", "set", "method", "array")
        _ = getattr(value, "table", None)
        assert fingerprint_value(value) == before, name


def test_functions_of_a_module_beside_it_count(tmp_path, monkeypatch):
    """`helpers.shift` is followed as `from helpers import shift` is; what is not named is not."""
    monkeypatch.syspath_prepend(tmp_path)
    # Files that are written within a second would share their bytecode.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = tmp_path / "helpers"
    folder.mkdir()
    found = []
    for amount, other in ((1, 1), (2, 1), (1, 2)):
        (folder / "__init__.py").write_text("from helpers import deep\nhelpers = deep.helpers\n")
        (folder / "deep.py").write_text(
            f"import helpers\nAMOUNT = {amount}\n"
            f"def shift(x):\n    return x + AMOUNT\ndef unused(x):\n    return {other}\n"
        )
        for name in ("helpers", "helpers.deep"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        scope = {"helpers": importlib.import_module("helpers")}
        exec("def transform(example, rng): return helpers.deep.shift(example)", scope)
        found.append(fingerprint_value(scope["transform"]))
    for name in ("helpers", "helpers.deep"):
        sys.modules.pop(name, None)
    assert found[0] != found[1]
    assert found[0] == found[2]


def test_arrays_of_jax_count_by_their_content():
    def make(values):
        return functools.partial(max, jax.numpy.array(values))

    assert fingerprint_value(make([1, 2])) == fingerprint_value(make([1, 2]))
    assert fingerprint_value(make([1, 2])) != fingerprint_value(make([1, 3]))


def test_what_wraps_a_function_leads_to_it():
    first, second = jax.jit(lambda x: x + 1), jax.jit(lambda x: x + 2)
    assert fingerprint_value(first) != fingerprint_value(second)
    for decorate in (functools.lru_cache, contextlib.contextmanager):
        first, again, second = (decorate(f) for f in (lambda: 1, lambda: 1, lambda: 2))
        assert fingerprint_value(first) == fingerprint_value(again) != fingerprint_value(second)


def test_a_value_whose_content_cannot_be_told_is_refused():
    @dataclass
    class Locked:
        lock: object

    for value in (threading.Lock(), Locked(threading.Lock()), (x for x in ())):
        with pytest.raises(GenaxError, match="has no content that a fingerprint could follow"):
            fingerprint_value(functools.partial(max, value))


def test_transforms_of_images():
    def printed(transform):
        return ImageData("digits", transform=transform).fingerprint()

    def scaled(example, rng, factor):
        return {**example, "image": example["image"] * factor}

    half = printed(functools.partial(scaled, factor=0.5))
    assert half == printed(functools.partial(scaled, factor=0.5))
    assert half != printed(functools.partial(scaled, factor=0.25))
    first, second = (lambda example, rng: example), (lambda example, rng: dict(example))
    assert printed(first) != printed(second)
    assert printed(first) == printed(lambda example, rng: example)
