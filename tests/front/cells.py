"""Cells of a notebook, run without a kernel."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable
from typing import Any


def play(cells: Iterable[str], namespace: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run cells as a notebook does, one after the other, and return what they defined.

    Functions know the text of their cell. What a cell ends with is shown, and kept in "Out".
    """
    namespace = namespace or {"In": [], "Out": {}, "__name__": "__main__"}
    for cell in cells:
        number = len(namespace["In"])
        name = f"<cell {number} of {id(namespace)}>"
        namespace["In"].append(cell)
        linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        body = ast.parse(cell).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), name, "exec", dont_inherit=True), namespace)
        if last is not None:
            shown = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
            if shown is not None:
                namespace["Out"][number] = shown
                picture = getattr(shown, "_repr_png_", lambda: None)()
                print(shown, "" if picture is None else f"and {len(picture)} bytes of a picture")
    return namespace
