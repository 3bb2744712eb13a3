"""What a compiled program moves, read from its text: bytes of memory, and collectives by kind.

XLA's own cost analysis counts the body of a loop once; here it counts as often as it runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "iota",
    "opt-barrier",
}
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_HEADER = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%([\w.\-]+) = ")


@dataclass(frozen=True)
class Moved:
    """Of one device and one step.

    memory: bytes read from and written to its main memory. collectives: kind to how often it runs
    and the bytes that it sends. open_loops: loops whose length the text does not tell; they count
    once.
    """

    memory: float
    collectives: dict[str, tuple[int, float]]
    open_loops: int

    @property
    def sent(self) -> float:
        """Bytes of all collectives."""
        return sum(size for _, size in self.collectives.values())


@dataclass(frozen=True)
class Size:
    """Bytes of an array, and whether it lies in the device's main memory."""

    bytes: float
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
        """Of its results."""
        return [_size(*found) for found in _ARRAY.findall(self.shape)]

    @property
    def bytes(self) -> float:
        """Of all its results, wherever they lie."""
        return sum(size.bytes for size in self.sizes)

    @property
    def main(self) -> float:
        """Of its results in main memory."""
        return sum(size.bytes for size in self.sizes if size.main)

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
        """By number."""
        return {
            int(line.operands[0]): line
            for line in self.instructions.values()
            if line.opcode == "parameter"
        }

    def users(self, name: str) -> list[Instruction]:
        """What reads an instruction, looking through changes of shape."""
        found = []
        for line in self.instructions.values():
            if name in line.operands:
                bare = line.opcode in ("bitcast", "reshape")
                found += self.users(line.name) if bare and not line.root else [line]
        return found


# What the parameters of a fusion were called with: by name, the operand and where it is.
_Outer = dict[str, tuple[str, Computation]]


def moved(text: str) -> Moved:
    """What the program of `jax.stages.Compiled.as_text()` moves."""
    return _Program(text).moved()


class _Program:
    def __init__(self, text: str):
        self.computations: dict[str, Computation] = {}
        self.entry = ""
        self.open_loops = 0
        # The parts of an asynchronous collective repeat it under one channel, and those that wait
        # for it may lie within a loop that it spans.
        self.channels: dict[str, tuple[str, int, float]] = {}
        self.alone: list[tuple[str, int, float]] = []
        count = re.search(r"num_partitions=(\d+)", text)
        self.devices = int(count[1]) if count else 1
        current = Computation()
        for line in text.splitlines():
            header = _HEADER.match(line)
            if header:
                current = self.computations[header[2]] = Computation()
                self.entry = header[2] if header[1] else self.entry
            elif _INSTRUCTION.match(line):
                parsed = _parse(line)
                current.instructions[parsed.name] = parsed

    def moved(self) -> Moved:
        memory = self._walk(self.computations[self.entry], 1)
        collectives: dict[str, tuple[int, float]] = {}
        for kind, times, size in (*self.channels.values(), *self.alone):
            count, total = collectives.get(kind, (0, 0.0))
            collectives[kind] = (count + times, total + times * size)
        return Moved(memory, collectives, self.open_loops)

    def _walk(self, computation: Computation, times: int) -> float:
        """Bytes of main memory that a computation moves when it runs so often."""
        memory = 0.0
        for line in computation.instructions.values():
            if line.opcode == "while":
                body = self.computations[line.attribute("body") or ""]
                memory += self._walk(body, times * self._trips(line, computation))
            elif line.opcode in ("call", "conditional"):
                for name in self._called(line):
                    memory += self._walk(self.computations[name], times)
            else:
                self._collect(line, computation, times)
                memory += times * self._traffic(line, computation)
        return memory

    def _called(self, line: Instruction) -> Iterator[str]:
        keys = "to_apply|calls|branch_computations|true_computation|false_computation"
        for found in re.findall(rf"(?:{keys})=(\{{[^}}]*\}}|%[\w.\-]+)", line.rest):
            yield from _NAME.findall(found)

    def _collect(self, line: Instruction, computation: Computation, times: int) -> None:
        if line.opcode in ("fusion", "async-start"):
            for name in self._called(line):
                inner = self.computations[name]
                for part in inner.instructions.values():
                    self._collect(part, inner, times)
            return
        kind = _kind(line)
        if kind is None:
            return
        operands = sum(self._operand_sizes(line, computation, main=False))
        size = _sent(kind, operands, line, self.devices)
        channel = line.attribute("channel_id")
        if channel is None:
            self.alone.append((kind, times, size))
        elif channel not in self.channels or self.channels[channel][1] > times:
            self.channels[channel] = (kind, times, size)

    def _operand_sizes(self, line: Instruction, computation: Computation, main: bool = True):
        found = [computation.instructions.get(name) for name in line.operands]
        return [(one.main if main else one.bytes) if one else 0.0 for one in found]

    def _traffic(self, line: Instruction, computation: Computation) -> float:
        opcode = line.opcode
        if opcode in _FREE or opcode.endswith(("-done", "-update")):
            return 0.0
        if opcode in ("copy-start", "slice-start", "dynamic-slice-start"):
            # Source and destination, in whatever memory each lies; no more is moved than arrives.
            least = min(size.bytes for size in line.sizes[:2])
            return least * sum(size.main for size in line.sizes[:2])
        if opcode in ("dynamic-slice", "slice", "gather"):
            return 2 * line.main
        if opcode == "dynamic-update-slice":
            return 2 * self._operand_sizes(line, computation)[1]
        if opcode == "custom-call" and "AllocateBuffer" in line.rest:
            return 0.0
        if opcode == "fusion":
            inner = self.computations[line.attribute("calls") or ""]
            return self._read(line, computation, inner) + _written(line, inner)
        return sum(self._operand_sizes(line, computation)) + line.main

    def _read(self, line: Instruction, computation: Computation, inner: Computation) -> float:
        """What a fusion reads: of an operand that it only slices, the slices."""
        total = 0.0
        for number, whole in enumerate(self._operand_sizes(line, computation)):
            name = inner.parameters[number].name
            parts = [_sliced(user, name) for user in inner.users(name)] if whole else []
            known = [part for part in parts if part is not None]
            total += min(whole, sum(known)) if len(known) == len(parts) else whole
        return total

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
        inner = self.computations[line.attribute("calls") or ""]
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
    """Where the parenthesis that text begins with is closed."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place
    return len(text)


def _kind(line: Instruction) -> str | None:
    """Which collective an instruction starts, if it does."""
    kind = line.opcode.removesuffix("-start")
    return kind if kind in COLLECTIVES else None


def _size(dtype: str, dims: str, layout: str) -> Size:
    bits = re.search(r"\d+", dtype)
    width = int(bits[0]) / 8 if bits else float(dtype == "pred")
    elements = math.prod(int(size) for size in dims.split(",") if size)
    return Size(elements * width, re.search(r"S\([1-9]\d*\)", layout) is None)


def _sliced(user: Instruction, name: str) -> float | None:
    """Bytes that an instruction within a fusion reads of an operand, where not all of it."""
    if user.opcode == "tuple" or _kind(user):
        return 0.0  # handed on; what a collective reads is counted with it
    if user.opcode in ("dynamic-slice", "slice", "gather"):
        return user.bytes
    if user.opcode == "dynamic-update-slice" and user.operands[0] == name:
        return 0.0
    return None


def _written(line: Instruction, inner: Computation) -> float:
    """What a fusion writes: of an array that it updates in place, the update."""
    root = inner.root
    parts = [inner.instructions[n] for n in root.operands] if root.opcode == "tuple" else [root]
    total = 0.0
    for part, size in zip(parts, line.sizes, strict=False):
        while part.opcode == "bitcast":
            part = inner.instructions[part.operands[0]]
        if part.opcode == "parameter" or _kind(part):
            continue
        update = part.opcode == "dynamic-update-slice"
        size_of = inner.instructions[part.operands[1]].bytes if update else size.bytes
        total += size_of if size.main else 0.0
    return total


def _sent(kind: str, operands: float, line: Instruction, devices: int) -> float:
    """Bytes that a device sends in a collective, by the best algorithm on a ring."""
    if kind in ("collective-permute", "collective-broadcast"):
        return operands
    size = _group_size(line.rest, devices)
    if kind == "all-gather":
        return operands * (size - 1)
    return operands * (size - 1) / size * (2 if kind == "all-reduce" else 1)


def _group_size(rest: str, devices: int) -> int:
    """Devices in each group of a collective, in the ways that XLA writes them."""
    named = re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", rest)
    if named:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", named[2])  # part of an axis: 'a':(2)4
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    counted = re.search(r"replica_groups=\[\d+,(\d+)\]<=", rest)
    if counted:
        return int(counted[1])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", rest)
    if listed:
        return listed[1].count(",") + 1
    if "replica_groups={}" in rest:
        return devices
    raise ValueError(f"a collective's groups are written in a way unknown here: {rest[:300]}")
