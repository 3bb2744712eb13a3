"""Examples made of Python source: what a function does, its name, and what its arguments are."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from genax.data.sets.embedded import load_stdlib

_CODE = 2_000
_WINDOW = 600
_WORDS = range(3, 31)

Example = dict[str, Any]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def stdlib_examples(name: str) -> Mapping[str, Sequence[Example]]:
    """ "stdlib_summaries", "stdlib_names" or "stdlib_signatures", split by files as `load_stdlib`.

    What comes twice is left out the second time, so that nothing held out is in the training half.
    """
    make, key = {
        "stdlib_summaries": (summaries, ("code",)),
        "stdlib_names": (names, ("code",)),
        "stdlib_signatures": (signatures, ("context", "question")),
    }[name]
    splits: dict[str, list[Example]] = {}
    seen: set[tuple[str, ...]] = set()
    for split, documents in load_stdlib().items():
        splits[split] = []
        for document in documents:
            for example in make(document):
                known = tuple(example[part] for part in key)
                if known not in seen:
                    splits[split].append(example)
                seen.add(known)
    return splits


def summaries(document: str) -> Iterator[Example]:
    """`code`, a function without its docstring; `summary`, the docstring's first line; `method`.

    The last is 1 if the first argument is self or cls.

    Only of functions of at most 2,000 characters that do something, with a docstring whose first
    sentence or paragraph is a line of 3 to 30 words.
    """
    lines = _lines(document)
    for function in _functions(document):
        summary = _summary(ast.get_docstring(function) or "")
        code = None if summary is None else _code(lines, function)
        if code is not None:
            yield {"code": code, "summary": summary, "method": int(_is_method(function))}


def names(document: str) -> Iterator[Example]:
    """`code`, a function named "_" without decorators and docstring; `name`, the words of its name.

    What Allamanis et al. 2016 (arXiv:1602.03001) call extreme summarisation. Only of functions of
    at most 2,000 characters; not of `__init__` and its like.
    """
    lines = _lines(document)
    for function in _functions(document):
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", function.name)
        code = _code(lines, function, decorators=False)
        if code is not None and words and not function.name.startswith("__"):
            hidden = re.sub(rf"\bdef\s+{function.name}\b", "def _", code, count=1)
            yield {"code": hidden, "name": " ".join(words).lower()}


def _code(lines: Sequence[str], function: Function, decorators: bool = True) -> str | None:
    """A function without its docstring; None if that is all, or is not on lines of its own."""
    first = min([function.lineno, *(node.lineno for node in function.decorator_list if decorators)])
    kept = list(lines[first - 1 : function.end_lineno])
    if ast.get_docstring(function) is not None:
        doc, *after = function.body
        alone = after and doc.end_lineno < after[0].lineno  # type: ignore[operator]
        if not alone or not _begins(lines, doc):
            return None
        del kept[doc.lineno - first : doc.end_lineno - first + 1]  # type: ignore[operator]
    # A string over several lines may begin further to the left than the function does.
    indent = re.compile(rf"[ \t]{{0,{function.col_offset}}}")
    code = "".join(indent.sub("", line, count=1) for line in kept).rstrip()
    return code if len(code) <= _CODE else None


def _is_method(function: Function) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args]
    return bool(arguments) and arguments[0].arg in ("self", "cls")


def _summary(docstring: str) -> str | None:
    first, *rest = [line.strip() for line in docstring.splitlines()] or [""]
    whole = not rest or not rest[0] or first.endswith(".")
    return first if whole and len(first.split()) in _WORDS else None


def signatures(document: str) -> Iterator[Example]:
    """Questions for the arguments of every function of a window of source.

    Windows begin at a function, do not overlap, and hold as many whole lines as fit 600
    characters, with at least two functions. `context` is the window; `answer` is what stands
    between the parentheses, from the character `start` of the context on.
    """
    lines = _lines(document)
    functions = sorted(_functions(document), key=lambda function: function.lineno)
    end = 0
    for number, function in enumerate(functions):
        first = function.lineno - 1
        if first < end:
            continue
        last, size = first, 0
        while last < len(lines) and size + len(lines[last]) <= _WINDOW:
            size += len(lines[last])
            last += 1
        inside = [other for other in functions[number:] if other.lineno <= last]
        if len(inside) < 2:
            continue
        end = last
        names = [other.name for other in inside]
        for other in inside:
            # Of two functions with one name, the question would not tell which is meant.
            answer = _arguments(lines[other.lineno - 1], other)
            if answer is not None and names.count(other.name) == 1:
                offset = sum(map(len, lines[first : other.lineno - 1]))
                yield {
                    "context": "".join(lines[first:last]),
                    "question": f"what are the arguments of {other.name}?",
                    "answer": answer[0],
                    "start": offset + answer[1],
                }


def _arguments(line: str, function: Function) -> tuple[str, int] | None:
    """What stands between the parentheses and where in the line; None if nothing, or more lines."""
    head = re.match(rf"\s*(?:async )?def {function.name}\(", line)
    if head is None:
        return None
    expected = ast.dump(function.args)
    for found in re.finditer(r"\)", line):
        text = line[head.end() : found.start()]
        try:
            (again,) = ast.parse(f"def f({text}): pass").body
        except SyntaxError:
            continue
        if isinstance(again, ast.FunctionDef) and ast.dump(again.args) == expected:
            answer = text.strip()
            return (answer, head.end() + text.index(answer)) if answer else None
    return None


def _lines(document: str) -> list[str]:
    """Split a text into lines as the parser counts them: a form feed ends no line."""
    return [line + "\n" for line in document.split("\n")]


def _functions(document: str) -> list[Function]:
    try:
        with warnings.catch_warnings():
            # Old escapes in strings are no concern here.
            warnings.simplefilter("ignore")
            tree = ast.parse(document)
    except (SyntaxError, ValueError):
        return []
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def _begins(lines: Sequence[str], node: ast.stmt) -> bool:
    return not lines[node.lineno - 1].encode()[: node.col_offset].strip()
