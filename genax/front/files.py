"""Experiments' files: found, read, imported."""

from __future__ import annotations

import ast
import importlib.util
import sys
import types
from collections.abc import Mapping
from pathlib import Path

from etils import epath

from genax.core.errors import GenaxError
from genax.settings import Variant


def roots() -> list[Path]:
    """Folders in which an experiment's relative path is looked for."""
    return [Path.cwd(), Path(__file__).resolve().parents[2]]


def import_experiment(
    path: epath.PathLike, text: str | None = None, beside: Path | None = None
) -> types.ModuleType:
    """Import an experiment's file (see `import_file`). Raises GenaxError if it is none."""
    module = import_file(path, text, beside)
    if hasattr(module, "get_config") and not hasattr(module, "DEFAULTS"):
        raise GenaxError(
            f"{path} has a get_config, which genax no longer calls; write DEFAULTS = {{...}} with "
            'its settings, and VARIANTS = {"NAME": Variant("what it is", {...})} with what each '
            "variant changes."
        )
    for needed in ("DEFAULTS", "build"):
        if not hasattr(module, needed):
            raise GenaxError(f"{path} has no {needed}: it is not an experiment.")
    return module


def variants_of(module: types.ModuleType) -> Mapping[str, Variant]:
    """Return the variants of an experiment by name; one without a table has the variant cpu."""
    variants = getattr(module, "VARIANTS", None) or {"cpu": Variant("the defaults")}
    for name, variant in variants.items():
        if not isinstance(variant, Variant):
            raise GenaxError(
                f"VARIANTS[{name!r}] of {module.__file__} is a {type(variant).__name__}; write "
                'genax.settings.Variant("what it is", {...}) with the settings that it changes.'
            )
    return variants


def import_file(
    path: epath.PathLike, text: str | None = None, beside: Path | None = None
) -> types.ModuleType:
    """Return the module of a Python file, which may import what lies beside it.

    text: of the file; None reads it.
    beside: the folder that it imports from; None is its own.
    """
    path = epath.Path(path)
    if path.suffix != ".py":
        raise GenaxError(f"{path} is not a Python file.")
    text = source_of(path) if text is None else text
    module = types.ModuleType(f"experiment_{path.stem}")
    module.__file__ = str(path)
    folder = str(path.parent if beside is None else beside)
    if folder not in sys.path:
        sys.path.append(folder)
    # Dataclasses, and so Linen modules, look up their annotations there.
    sys.modules[module.__name__] = module
    exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
    return module


def source_of(path: epath.PathLike) -> str:
    """Return the text of a Python file."""
    return importlib.util.decode_source(epath.Path(path).read_bytes())


def is_experiment(path: Path) -> bool:
    """Return whether a file's text defines or imports `DEFAULTS` and `build`; none of it is run."""
    try:
        body = ast.parse(path.read_text()).body
    except (SyntaxError, ValueError):
        return False
    names = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    for node in body:
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                inner.id
                for target in targets
                for inner in ast.walk(target)
                if isinstance(inner, ast.Name)
            }
    return {"DEFAULTS", "build"} <= names
