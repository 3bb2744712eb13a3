"""A compiled program, read from its text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_HEADER = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%([\w.\-]+) = ")
# Computations that an instruction calls once, other than a loop's.
_CALLED = re.compile(
    r"(?:to_apply|calls|branch_computations|true_computation|false_computation)"
    r"=(\{[^}]*\}|%[\w.\-]+)"
)


@dataclass(frozen=True)
class Size:
    """An array's bytes, and whether it lies in the device's main memory.

    bytes: with the padding of its tiles, which is stored and moved too. data: without.
    """

    bytes: float
    data: float
    main: bool


@dataclass
class Instruction:
    """A line of a program."""

    name: str
    shape: str
    opcode: str
    operands: Sequence[str]
    rest: str
    root: bool

    @cached_property
    def sizes(self) -> list[Size]:
        """Sizes of its results."""
        return [_size(*found) for found in _ARRAY.findall(self.shape)]

    @property
    def bytes(self) -> float:
        """Bytes of all its results, wherever they lie."""
        return sum(size.bytes for size in self.sizes)

    @property
    def data(self) -> float:
        """Bytes of all its results without padding."""
        return sum(size.data for size in self.sizes)

    @property
    def main(self) -> float:
        """Bytes of its results in main memory."""
        return sum(size.bytes for size in self.sizes if size.main)

    @property
    def cycles(self) -> int | None:
        """Clock cycles that the compiler expects it to take; None if it does not say."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
        return int(found[1]) if found else None

    @cached_property
    def called(self) -> list[str]:
        """Names of the computations that it calls once."""
        return [name for found in _CALLED.findall(self.rest) for name in _NAME.findall(found)]

    def attribute(self, name: str) -> str | None:
        """A computation or a number named beside the operands."""
        found = re.search(rf"\b{name}=%?([\w.\-]+)", self.rest)
        return found[1] if found else None


@dataclass
class Computation:
    """Instructions by name, in order."""

    instructions: dict[str, Instruction] = field(default_factory=dict)

    @property
    def root(self) -> Instruction:
        """The one that gives the result."""
        return next(line for line in self.instructions.values() if line.root)

    @cached_property
    def parameters(self) -> dict[int, Instruction]:
        """Instructions that stand for the operands, by number."""
        return {
            int(line.operands[0]): line
            for line in self.instructions.values()
            if line.opcode == "parameter"
        }

    def uses(self, name: str) -> list[tuple[Instruction, int]]:
        """What reads an instruction, and as which operand, looking through changes of shape."""
        found = []
        for line in self.instructions.values():
            for number, operand in enumerate(line.operands):
                if operand == name:
                    bare = line.opcode in ("bitcast", "reshape") and not line.root
                    found += self.uses(line.name) if bare else [(line, number)]
        return found


@dataclass(frozen=True)
class Executed:
    """An instruction with the computation that it stands in and how often it runs."""

    line: Instruction
    computation: Computation
    times: int


# What the parameters of a fusion were called with: by name, the operand and where it is.
_Outer = dict[str, tuple[str, Computation]]


class Program:
    """The text of `jax.stages.Compiled.as_text()`, parsed.

    computations: all of them by name; `entry` is the one that runs. devices: how many it is split
    over. executed: all instructions but loops and calls, in whose place stand those of their
    bodies; a fusion is one instruction. open_loops: loops whose length the text does not tell;
    they count once.
    """

    def __init__(self, text: str):
        self.computations: dict[str, Computation] = {}
        self.entry = Computation()
        self.open_loops = 0
        count = re.search(r"num_partitions=(\d+)", text)
        self.devices = int(count[1]) if count else 1
        current = Computation()
        for line in text.splitlines():
            header = _HEADER.match(line)
            if header:
                current = self.computations[header[2]] = Computation()
                self.entry = current if header[1] else self.entry
            elif _INSTRUCTION.match(line):
                parsed = _parse(line)
                current.instructions[parsed.name] = parsed
        self.executed = list(self._walk(self.entry, 1))

    def calls(self, line: Instruction) -> Computation:
        """The computation of a fusion."""
        return self.computations[line.attribute("calls") or ""]

    def _walk(self, computation: Computation, times: int) -> Iterator[Executed]:
        for line in computation.instructions.values():
            if line.opcode == "while":
                body = self.computations[line.attribute("body") or ""]
                yield from self._walk(body, times * self._trips(line, computation))
            elif line.opcode in ("call", "conditional"):
                for name in line.called:
                    yield from self._walk(self.computations[name], times)
            else:
                yield Executed(line, computation, times)

    def _trips(self, loop: Instruction, computation: Computation) -> int:
        """How often a loop runs, from "counter < constant" and the counter's steps."""
        condition = self.computations[loop.attribute("condition") or ""]
        body = self.computations[loop.attribute("body") or ""]
        compare, inside, outside = self._within(condition.root, condition)
        if compare.opcode == "compare" and "direction=LT" in compare.rest:
            left, right = (self._scalar(name, inside, outside) for name in compare.operands)
            if left is not None and right is not None:
                (index, begin), (none, end) = left, right
                start = self._initial(loop, computation, index)
                step = self._step(body, index)
                if index is not None and none is None and start is not None and step:
                    return max(0, -(-(end - begin - start) // step))
        self.open_loops += 1
        return 1

    def _within(
        self, line: Instruction, computation: Computation
    ) -> tuple[Instruction, Computation, _Outer]:
        """The root of a fusion with the operands that it was called with, or the line itself."""
        if line.opcode != "fusion":
            return line, computation, {}
        inner = self.calls(line)
        outer = {
            inner.parameters[number].name: (name, computation)
            for number, name in enumerate(line.operands)
        }
        return inner.root, inner, outer

    def _scalar(
        self, name: str, computation: Computation, outer: _Outer
    ) -> tuple[int | None, int] | None:
        """(element of the loop's state, offset) or (None, constant); None for anything else."""
        line = computation.instructions[name]
        if name in outer:
            return self._scalar(outer[name][0], outer[name][1], {})
        if line.opcode == "constant":
            text = line.operands[0] if line.operands else ""
            return (None, int(text)) if re.fullmatch(r"-?\d+", text) else None
        if line.opcode == "get-tuple-element":
            return int(line.attribute("index") or 0), 0
        if line.opcode in ("copy", "bitcast", "convert"):
            return self._scalar(line.operands[0], computation, outer)
        if line.opcode == "add":
            left, right = (self._scalar(n, computation, outer) for n in line.operands)
            if left and right and (left[0] is None or right[0] is None):
                return (right[0] if left[0] is None else left[0]), left[1] + right[1]
        if line.opcode == "fusion":
            root, inner, around = self._within(line, computation)
            return self._scalar(root.name, inner, around)
        return None

    def _initial(self, loop: Instruction, computation: Computation, index: int | None):
        state = computation.instructions[loop.operands[0]]
        if index is None or state.opcode != "tuple":
            return None
        found = self._scalar(state.operands[index], computation, {})
        return found[1] if found and found[0] is None else None

    def _step(self, body: Computation, index: int | None) -> int | None:
        if index is None or body.root.opcode != "tuple":
            return None
        found = self._scalar(body.root.operands[index], body, {})
        return found[1] if found and found[0] == index else None


def _parse(line: str) -> Instruction:
    start = _INSTRUCTION.match(line)
    assert start is not None
    rest = line[start.end() :]
    end = _closing(rest) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opcode, _, rest = rest.partition("(")
    end = _closing("(" + rest) - 1
    inside = rest[:end]
    operands = _NAME.findall(inside) or ([inside] if inside else [])
    return Instruction(start[2], shape, opcode, operands, rest[end:], bool(start[1]))


def _closing(text: str) -> int:
    """The place at which the parenthesis that a text begins with is closed."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place
    return len(text)


def _size(dtype: str, dims: str, layout: str) -> Size:
    bits = re.search(r"\d+", dtype)
    width = int(bits[0]) / 8 if bits else float(dtype == "pred")
    sizes = _numbers(dims)
    data = math.prod(sizes) * width
    order, _, rest = layout.partition(":")
    tiles = re.match(r"T((?:\([\d,]+\))+)", rest)
    if tiles:
        sizes = [sizes[axis] for axis in reversed(_numbers(order))]
        for tile in re.findall(r"\(([\d,]+)\)", tiles[1]):
            sizes = _tiled(sizes, _numbers(tile))
    main = re.search(r"S\([1-9]\d*\)", layout) is None
    return Size(math.prod(sizes) * width, data, main)


def _tiled(sizes: Sequence[int], tile: Sequence[int]) -> list[int]:
    """The sizes of an array cut into tiles, the innermost axis last; what is begun is filled."""
    sizes = [1] * (len(tile) - len(sizes)) + list(sizes)
    outer, inner = sizes[: -len(tile)], sizes[-len(tile) :]
    return outer + [-(-size // part) for size, part in zip(inner, tile, strict=True)] + list(tile)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]
