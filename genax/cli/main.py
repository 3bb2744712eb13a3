"""The command `genax`."""

from __future__ import annotations

import argparse
import errno
import logging
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from genax import BEGAN
from genax.cli import compile as compile_
from genax.cli import data, evaluate, export, import_, inspect, list_, params, sample, train
from genax.core.errors import GenaxError

VERBS = (list_, train, sample, evaluate, inspect, params, compile_, data, import_, export)

# What a user can put right: a full disk, quota or limit, and places of others.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"genax: {message}; see {self.prog} --help.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; an error a user can act on is one sentence and a non-zero exit."""
    parser = _Parser(
        prog="genax", description="Train, sample and evaluate generative models in JAX."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)
    for verb in VERBS:
        verb.add_parser(verbs)
    args, rest = parser.parse_known_args(argv)
    args.began = time.monotonic() if argv is not None else BEGAN
    # Orbax logs the tracebacks of errors that it also raises, and genax turns into a sentence.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    try:
        args.settings = _settings(rest) if getattr(args, "configurable", False) else rest
        if args.settings and not isinstance(args.settings, dict):
            raise GenaxError(f"unknown argument {rest[0]}; see genax {args.verb} --help.")
        return args.run(args)
    except GenaxError as error:
        print(f"genax: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        place = error.filename or getattr(args, "workdir", "the disk")
        if error.errno in _FULL:
            sentence = f"nothing more can be written to {place} ({error.strerror}); make room, then"
        elif error.errno in _CLOSED and error.filename:
            sentence = (
                f"{place} can't be used ({error.strerror}); choose another place or free it, then"
            )
        else:
            raise
        print(f"genax: {sentence} run the same command.", file=sys.stderr)
        return 1


def _settings(rest: Sequence[str]) -> dict[str, str]:
    """Key to text, from --config.KEY=VALUE or --config.KEY VALUE."""
    settings: dict[str, str] = {}
    waiting = list(rest)
    while waiting:
        name, equals, value = waiting.pop(0).partition("=")
        if not name.startswith("--config."):
            raise GenaxError(f"unknown argument {name}; settings are --config.KEY=VALUE.")
        if not equals:
            if not waiting:
                raise GenaxError(f"{name} needs a value: {name}=VALUE.")
            value = waiting.pop(0)
        settings[name.removeprefix("--config.")] = value
    return settings
