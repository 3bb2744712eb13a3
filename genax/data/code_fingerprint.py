"""Fingerprints of functions that follow their code and values, the same at every start."""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from genax.core.errors import GenaxError

_INSTALLED = tuple(
    Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")
)
_VALUES = (int, float, complex, str, bytes, tuple, list, dict, set, frozenset, np.ndarray)
_PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes)


def fingerprint_value(value: Any) -> str:
    """Return the SHA-256 (hex) of a value: a function, a `functools.partial`, a callable object.

    A function counts by its bytecode, defaults, closure, and what it names among the globals of its
    module and in other modules, such as `helpers.shift`. Functions of Python and of installed
    packages count by their names. Names of files, numbers of lines and addresses in memory do not
    count. Another version of Python may compile to another bytecode.

    Raises GenaxError for a value whose content cannot be told, such as a lock.
    """
    digest = hashlib.sha256()
    for part in _Walk().parts(value):
        digest.update(f"{len(part)}:".encode() + part)
    return digest.hexdigest()


class _Walk:
    """Flattens a value into bytes; a value that was met before is told by its number."""

    def __init__(self):
        # Objects are kept, since the address of one that is gone may come again.
        self.met: dict[int, tuple[int, Any]] = {}

    def parts(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, _PLAIN):
            yield f"{type(value).__name__} {value!r}".encode(errors="surrogatepass")
        elif isinstance(value, CodeType):
            yield from self._code(value)
        elif type(value) in (tuple, list):
            yield from self._named(type(value).__name__, *value)
        elif isinstance(value, set | frozenset):
            # Their order is another one at every start.
            yield from self._named(type(value).__name__, *sorted(map(fingerprint_value, value)))
        elif type(value) is dict:
            ordered = sorted(value.items(), key=lambda item: fingerprint_value(item[0]))
            yield from self._named("dict", *ordered)
        elif isinstance(value, ModuleType):
            yield f"module {value.__name__}".encode()
        elif id(value) in self.met:
            yield f"met {self.met[id(value)][0]}".encode()
        else:
            self.met[id(value)] = len(self.met), value
            yield from self._object(value)

    def _named(self, name: str, *values: Any) -> Iterator[bytes]:
        yield f"{name} {len(values)}".encode()
        for value in values:
            yield from self.parts(value)

    def _object(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, FunctionType):
            yield from self._function(value)
        elif isinstance(value, MethodType):
            yield from self._named("method", value.__func__, value.__self__)
        elif isinstance(value, functools.partial):
            yield from self._named("partial", value.func, value.args, value.keywords)
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, BuiltinFunctionType | np.ufunc):
            owner = getattr(value, "__self__", None)
            owner = None if isinstance(owner, ModuleType) else owner
            yield from self._named("builtin", _name(value), owner)
        elif hasattr(value, "__wrapped__"):
            yield from self._named("wrapped", type(value).__qualname__, value.__wrapped__)
        elif hasattr(value, "__array__"):
            array = np.asarray(value)
            if array.dtype.hasobject:
                yield from self._named("array", array.shape, array.tolist())
            else:
                content = np.ascontiguousarray(array).tobytes()
                yield from self._named("array", array.dtype.str, array.shape, content)
        else:
            yield from self._instance(value)

    def _function(self, function: FunctionType) -> Iterator[bytes]:
        if _is_installed(function.__code__.co_filename):
            # One that wraps another takes over the other's name.
            name = f"{function.__globals__.get('__name__')}.{function.__code__.co_qualname}"
            yield from self._named("function", name, getattr(function, "__wrapped__", None))
            return
        cells = [_content(cell) for cell in function.__closure__ or ()]
        yield from self._named(
            "function", function.__code__, function.__defaults__, function.__kwdefaults__, cells
        )
        scope = function.__globals__
        for name in sorted(set(_global_names(function.__code__))):
            if name in scope:
                yield from self._named("global", name, scope[name])
                yield from self._members(scope[name], set(_all_names(function.__code__)))

    def _members(self, value: Any, names: set[str]) -> Iterator[bytes]:
        """Flatten what a function may name in a module that is not installed."""
        file = getattr(value, "__file__", None)
        if not isinstance(value, ModuleType) or not file or _is_installed(file):
            return
        for name in sorted(names & vars(value).keys()):
            yield from self._named("member", name, vars(value)[name])
            # The names that lead to a module below do not lead back.
            yield from self._members(vars(value)[name], names - {name})

    def _code(self, code: CodeType) -> Iterator[bytes]:
        flags = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        yield from self._named(
            "code", code.co_code, code.co_exceptiontable, counts, names, code.co_consts
        )

    def _class(self, kind: type) -> Iterator[bytes]:
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        if kind.__module__ in sys.builtin_module_names or (file and _is_installed(file)):
            yield from self._named("class", _name(kind))
            return
        members = {}
        for key, member in sorted(vars(kind).items()):
            # A method of the class, a static one, a property or a cached one holds a function.
            for name in ("__func__", "fget", "func"):
                member = getattr(member, name, member)
            own = not (key.startswith("__") and key.endswith("__"))
            if isinstance(member, FunctionType) or (own and isinstance(member, _VALUES)):
                members[key] = member
        yield from self._named("class", kind.__qualname__, members, *kind.__bases__)

    def _instance(self, value: Any) -> Iterator[bytes]:
        try:
            registered = copyreg.dispatch_table.get(type(value))
            reduced = registered(value) if registered else value.__reduce_ex__(4)
        except Exception as error:  # anything that an object's own method raises
            raise GenaxError(
                f"a {type(value).__qualname__} has no content that a fingerprint could follow "
                f"({error}); give the transform plain values, arrays and functions."
            ) from error
        if isinstance(reduced, str):
            yield from self._named("object", type(value), reduced)
            return
        make, arguments, state, *items = (*reduced, None, None, None)[:5]
        if isinstance(state, dict):
            # What is worked out on demand is there or not.
            cached = functools.cached_property
            state = {
                name: found
                for name, found in state.items()
                if not isinstance(getattr(type(value), name, None), cached)
            }
        yield from self._named("object", make, arguments, state)
        for found in items:
            yield from self._named("items", *(found or ()))


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', value.__name__)}"


def _is_installed(filename: str) -> bool:
    path = Path(filename).resolve()
    frozen = filename.startswith("<frozen")
    return frozen or any(path.is_relative_to(folder) for folder in _INSTALLED)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        # A name that its function has not bound yet.
        return ...


def _all_names(code: CodeType) -> Iterator[str]:
    """Yield the names of globals and attributes, those of functions inside too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all_names(constant)


def _global_names(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)
