"""An experiment that was defined in Python, written as a file of its own.

A notebook or a script holds more than an experiment: cells that train, plots, tries. The file gets
`build` and the tables, and of everything else only what they name: imports, functions, classes and
plain values.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import linecache
import math
import symtable
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

TABLES = ("DEFAULTS", "VARIANTS", "RANGES")
_PLAIN = (type(None), type(...), bool, int, float, str, bytes)


class UnwrittenError(Exception):
    """What an experiment names and no file can hold, as a sentence without its end."""


def written(module: types.ModuleType) -> str:
    """Return the text of a file that defines the same experiment.

    module: has build, and tables that `define` was given.
    Raises UnwrittenError if something that they name has no text.
    """
    writer = _Writer(module.build.__globals__)
    build = module.build
    writer.name(build.__name__, build)
    writer.lines += [] if build.__name__ == "build" else [f"build = {build.__name__}"]
    for table in TABLES:
        value = getattr(module, table, None) or {}
        if value or table == "DEFAULTS":
            items = [f"    {name!r}: {writer.value(one, table)},\n" for name, one in value.items()]
            writer.lines.append(f"{table} = {{\n{''.join(items)}}}")
    text = "\n\n".join(
        [*_heading(module.__doc__), "\n".join(sorted(writer.imports)), *writer.lines]
    )
    _check(text, module)
    return text + "\n"


def _heading(doc: str | None) -> Iterator[str]:
    if doc and not {"\\", '"'} & set(doc):
        yield f'"""{inspect.cleandoc(doc)}"""'


def _check(text: str, module: types.ModuleType) -> None:
    """Raise UnwrittenError if the text does not run, or defines other tables."""
    tried = types.ModuleType("experiment_written")
    before = sys.modules.get(tried.__name__)
    sys.modules[tried.__name__] = tried
    try:
        exec(compile(text, "experiment.py", "exec", dont_inherit=True), tried.__dict__)
    except Exception as error:
        raise UnwrittenError(f"what they name does not run by itself ({error})") from error
    finally:
        del sys.modules[tried.__name__]
        if before is not None:
            sys.modules[tried.__name__] = before
    for table in TABLES:
        if (getattr(tried, table, None) or {}) != (getattr(module, table, None) or {}):
            raise UnwrittenError(f"{table} is another one if it is read from a file")


class _Writer:
    """Statements that define names, each after what it needs."""

    def __init__(self, scope: Mapping[str, Any]):
        self.scope = scope
        self.imports: set[str] = set()
        self.lines: list[str] = []
        self.met: set[str] = set()

    def name(self, name: str, value: Any) -> None:
        """Write what binds a global name to a value."""
        if name in self.met:
            return
        self.met.add(name)
        if isinstance(value, types.ModuleType):
            if not _is_importable(value.__name__):
                raise UnwrittenError(f"{name!r} is a module that no other program could import")
            alias = "" if value.__name__ == name else f" as {name}"
            self.imports.add(f"import {value.__name__}{alias}")
        elif _is_imported(value):
            self.imports.add(_imported(value, name))
        elif isinstance(value, type) or isinstance(inspect.unwrap(value), types.FunctionType):
            self._definition(name, value)
        else:
            text = self.value(value, name)
            self.lines.append(f"{name} = {text}")

    def _definition(self, name: str, value: Any) -> None:
        """Write a function or class of the notebook or script itself."""
        own: Any = value if isinstance(value, type) else inspect.unwrap(value)
        text = _source(own, self.scope) if own.__name__ == name else None
        if text is None:
            raise UnwrittenError(f"{name!r} is not defined by a def or class of this name")
        if own.__module__ != self.scope.get("__name__"):
            raise UnwrittenError(
                f"{name!r} comes from {own.__module__}, which no other program could import"
            )
        for other in _globals_of(text):
            if other in self.scope and other != name:
                self.name(other, self.scope[other])
        self.lines.append(text)

    def value(self, value: Any, name: str) -> str:
        """Return an expression that makes a value. name: what it is part of, for errors."""
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if type(value) in _PLAIN:
            return repr(value)
        if isinstance(value, Mapping):
            items = [f"{self.value(k, name)}: {self.value(v, name)}" for k, v in value.items()]
            return "{" + ", ".join(items) + "}"
        if type(value) in (tuple, list, set):
            inside = ", ".join(self.value(one, name) for one in value)
            if isinstance(value, tuple):
                return f"({inside},)" if len(value) == 1 else f"({inside})"
            return f"[{inside}]" if isinstance(value, list) else f"set([{inside}])"
        if _is_imported(value):
            self.imports.add(f"import {value.__module__}")
            return f"{value.__module__}.{value.__qualname__}"
        own = getattr(value, "__name__", None)
        if own and _is_named(value) and self.scope.get(own) is value:
            self.name(own, value)
            return own
        if isinstance(value, functools.partial):
            keywords = [f"{key}={self.value(one, name)}" for key, one in value.keywords.items()]
            parts = [self.value(one, name) for one in (value.func, *value.args)]
            self.imports.add("import functools")
            return f"functools.partial({', '.join(parts + keywords)})"
        if hasattr(value, "as_python"):
            self.imports.add("import genax")
            return value.as_python()
        if dataclasses.is_dataclass(value):
            arguments = [
                f"{field.name}={self.value(getattr(value, field.name), name)}"
                for field in dataclasses.fields(value)
                if field.init and not _is_default(value, field)
            ]
            return f"{self.value(type(value), name)}({', '.join(arguments)})"
        raise UnwrittenError(f"{name!r} holds a {type(value).__name__}; make it in build")


def _is_named(value: Any) -> bool:
    """Whether a value is a function or class at the top of a module, which knows its name."""
    name = getattr(value, "__qualname__", None)
    return (
        isinstance(name, str)
        and isinstance(getattr(value, "__module__", None), str)
        and "<" not in name
        and not isinstance(value, types.MethodType)
    )


def _is_importable(module: str) -> bool:
    found = sys.modules.get(module)
    return module != "__main__" and getattr(found, "__spec__", None) is not None


def _is_imported(value: Any) -> bool:
    """Whether a value is a function or class of a module that another program can import."""
    if not _is_named(value) or not _is_importable(value.__module__):
        return False
    found: Any = sys.modules[value.__module__]
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _imported(value: Any, name: str) -> str:
    first, *rest = value.__qualname__.split(".")
    if rest:
        return f"import {value.__module__}\n{name} = {value.__module__}.{value.__qualname__}"
    alias = "" if first == name else f" as {name}"
    return f"from {value.__module__} import {first}{alias}"


def _is_default(value: Any, field: dataclasses.Field) -> bool:
    given = getattr(value, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return given == field.default_factory()
    return field.default is not dataclasses.MISSING and given is field.default


def _source(value: Any, scope: Mapping[str, Any]) -> str | None:
    """Return the statement that defines a function or class, the last one of its name."""
    members = vars(value).values() if isinstance(value, type) else (value,)
    unwrapped = [inspect.unwrap(one) for one in members if callable(one)]
    files = [one.__code__.co_filename for one in unwrapped if hasattr(one, "__code__")]
    texts = ["".join(linecache.getlines(file)) for file in files]
    if isinstance(value, type):
        # A class without methods of its own knows no file. A notebook's cells are in "In".
        texts += reversed(scope.get("In") or ())
        texts.append("".join(linecache.getlines(scope.get("__file__") or "")))
    for text in texts:
        try:
            body = ast.parse(text).body
        except (SyntaxError, ValueError):
            continue
        for node in reversed(body):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == value.__qualname__:
                first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    return None


def _globals_of(text: str) -> list[str]:
    """Return the global names that a statement reads, in the order of the alphabet."""
    found: set[str] = set()

    def walk(table: symtable.SymbolTable) -> None:
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or top):
                found.add(symbol.get_name())
        for inner in table.get_children():
            walk(inner)

    walk(symtable.symtable(text, "experiment.py", "exec"))
    return sorted(found)
