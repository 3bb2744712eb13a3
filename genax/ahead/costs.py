"""What a compiled program costs: bytes of memory, collectives by kind, the compiler's own estimate.

XLA's own cost analysis counts the body of a loop once; here it counts as often as it runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from genax.ahead.hlo import Computation, Executed, Instruction, Program

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


@dataclass(frozen=True)
class Costs:
    """What one device moves and sends in one step.

    memory: bytes read from and written to its main memory. collectives: kind to how often it runs
    and the bytes that it sends. cycles: the sum of those that the compiler expects of its
    instructions, which leaves out kernels and collectives; 0 from compilers that expect nothing.
    open_loops: loops whose length the text does not tell; they count once.
    """

    memory: float
    collectives: dict[str, tuple[int, float]]
    cycles: int
    open_loops: int

    @property
    def sent(self) -> float:
        """Bytes of all collectives."""
        return sum(size for _, size in self.collectives.values())


def costs(text: str) -> Costs:
    """What the program of `jax.stages.Compiled.as_text()` costs."""
    program = Program(text)
    return Costs(
        memory=sum(one.times * traffic(program, one) for one in program.executed),
        collectives=_collectives(program),
        cycles=sum(one.times * (one.line.cycles or 0) for one in program.executed),
        open_loops=program.open_loops,
    )


def traffic(program: Program, executed: Executed) -> float:
    """Bytes of main memory that an instruction reads and writes when it runs once."""
    line, computation = executed.line, executed.computation
    opcode = line.opcode
    if opcode in _FREE or opcode.endswith(("-done", "-update")):
        return 0.0
    if opcode in ("copy-start", "slice-start", "dynamic-slice-start"):
        # Source and destination, in whatever memory each lies; no more is moved than arrives.
        least = min(size.bytes for size in line.sizes[:2])
        return least * sum(size.main for size in line.sizes[:2])
    operands = _operands(line, computation)
    if opcode in ("dynamic-slice", "slice", "gather"):
        source = operands[0]
        return line.main + (line.bytes if source and source.main else 0.0)
    if opcode == "dynamic-update-slice":
        update = operands[1]
        return 2 * (update.main if update else 0.0)
    if opcode == "custom-call" and "AllocateBuffer" in line.rest:
        return 0.0
    if opcode == "fusion":
        inner = program.calls(line)
        parts = (
            min(one.main, _read(program, inner, inner.parameters[number].name, one.main))
            for number, one in enumerate(operands)
            if one and one.main
        )
        return sum(parts) + _written(program, line)
    return sum(one.main for one in operands if one) + line.main


def _operands(line: Instruction, computation: Computation) -> list[Instruction | None]:
    return [computation.instructions.get(name) for name in line.operands]


def _read(program: Program, inner: Computation, name: str, whole: float) -> float:
    """Bytes that a fusion reads of an operand, by the operand's name within it."""
    return sum(_read_by(program, user, number, whole) for user, number in inner.uses(name))


def _read_by(program: Program, user: Instruction, number: int, whole: float) -> float:
    """Bytes that an instruction within a fusion reads of an operand of the fusion."""
    if user.opcode == "tuple" or _kind(user):
        return 0.0  # handed on, or sent
    if number == 0 and user.opcode in ("dynamic-slice", "slice", "gather"):
        return user.bytes
    if number == 0 and user.opcode == "dynamic-update-slice":
        return 0.0
    if user.opcode == "fusion":
        nested = program.calls(user)
        return _read(program, nested, nested.parameters[number].name, whole)
    return whole


def _written(program: Program, line: Instruction) -> float:
    """Bytes that a fusion writes: of an array that it updates in place, the update."""
    inner = program.calls(line)
    root = inner.root
    parts = [inner.instructions[n] for n in root.operands] if root.opcode == "tuple" else [root]
    total = 0.0
    for part, size in zip(parts, line.sizes, strict=False):
        if size.main:
            total += _written_part(program, part, inner, size.bytes)
    return total


def _written_part(program: Program, part: Instruction, inner: Computation, whole: float) -> float:
    """Bytes written of a fusion's result, by the instruction within the fusion that makes it."""
    if part.opcode == "bitcast":
        return _written_part(program, inner.instructions[part.operands[0]], inner, whole)
    if part.opcode == "parameter" or _kind(part):
        return 0.0
    if part.opcode == "dynamic-update-slice":
        return inner.instructions[part.operands[1]].bytes
    maker, index = part, 0
    if part.opcode == "get-tuple-element":
        maker, index = inner.instructions[part.operands[0]], int(part.attribute("index") or 0)
    if maker.opcode == "fusion":
        nested = program.calls(maker)
        made = nested.root
        if made.opcode == "tuple":
            made = nested.instructions[made.operands[index]]
        if made.opcode != "parameter":
            return _written_part(program, made, nested, whole)
    return whole


def _collectives(program: Program) -> dict[str, tuple[int, float]]:
    # The parts of an asynchronous collective repeat it under one channel, and those that wait
    # for it may lie within a loop that it spans.
    channels: dict[str, tuple[str, int, float]] = {}
    alone: list[tuple[str, int, float]] = []
    for one in program.executed:
        for kind, line, size in _started(program, one.line, one.computation):
            channel = line.attribute("channel_id")
            if channel is None:
                alone.append((kind, one.times, size))
            elif channel not in channels or channels[channel][1] > one.times:
                channels[channel] = (kind, one.times, size)
    found: dict[str, tuple[int, float]] = {}
    for kind, times, size in (*channels.values(), *alone):
        count, total = found.get(kind, (0, 0.0))
        found[kind] = (count + times, total + times * size)
    return found


def _started(
    program: Program, line: Instruction, computation: Computation, name: str = ""
) -> Iterator[tuple[str, Instruction, float]]:
    """Collectives that an instruction starts, with their kinds and the bytes that each sends.

    name: of the computation that it stands in, if a fusion calls that.
    """
    if line.opcode in ("fusion", "async-start"):
        for called in line.called:
            inner = program.computations[called]
            for part in inner.instructions.values():
                yield from _started(program, part, inner, called)
        return
    kind = _kind(line)
    if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"  # XLA's way to write one on a TPU: each device keeps its slice
    if kind:
        operands = sum(one.data for one in _operands(line, computation) if one)
        yield kind, line, _sent(kind, operands, line, program.devices)


def _kind(line: Instruction) -> str | None:
    """Which collective an instruction starts, if it does."""
    kind = line.opcode.removesuffix("-start")
    return kind if kind in COLLECTIVES else None


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
