"""Elementwise operators: chains that passes made, single ones of any type, casts."""

from __future__ import annotations

from cpuruntime.devices.gpu.kernels.elementwise import Instruction
from cpuruntime.devices.gpu.kernels.functions import FUNCTIONS, WHOLE
from cpuruntime.devices.gpu.kernels.prelude import MEMORY
from cpuruntime.devices.gpu.lower.emitter import Emitter
from cpuruntime.devices.gpu.lower.walks import Walk, broadcast, emit, whole
from cpuruntime.graph import Node, Type, Value
from cpuruntime.passes import Earlier, spell


def lower_chain(emitter: Emitter, node: Node) -> None:
    """An expression that passes made."""
    output, views = node.outputs[0], node.attributes["views"]
    shape = output.static_shape
    walks = []
    for value, view in zip(node.inputs, views):
        place = emitter.place(value)
        walks.append(broadcast(place, shape) if view is None else Walk(place, place.begin + view[0], tuple(view[1:])))
    target = emitter.new(output)
    emit(emitter, node.attributes["expression"], shape, whole(target), walks, node.attributes["numbers"])


def check_chain(node: Node) -> str | None:
    """Why an Elementwise has no kernel."""
    missing = {op for op, _ in node.attributes["expression"]} - FUNCTIONS.keys()
    return f"no kernel for {', '.join(sorted(missing))}" if missing else None


def lower_operator(emitter: Emitter, node: Node) -> None:
    """One elementwise operator, of floats as passes spell it, of other types by its name."""
    shape = node.outputs[0].static_shape
    instructions: list[Instruction] = []
    walks: list[Walk] = []
    numbers: list[float] = []

    def read(value: Value) -> str:
        walks.append(broadcast(emitter.place(value), shape))
        return "abcdefghijklmnopqrstuvw"[len(walks) - 1]

    spelling = spell(node)
    if spelling is None:
        instructions = _whole(node, [read(value) for value in node.inputs if value is not None])
    else:
        for op, operands in spelling:
            names = []
            for operand in operands:
                if isinstance(operand, Earlier):
                    names.append(f"t{len(instructions) + operand.index}")
                elif isinstance(operand, Value):
                    names.append(read(operand))
                elif isinstance(operand, int | float):
                    numbers.append(float(operand))
                    names.append(f"p{len(numbers) - 1}")
                else:
                    names.append(read(Value.of(f"{node.name}/factor", operand)))
            instructions.append((op, tuple(names)))
    if not walks:  # all operands are numbers
        walks.append(broadcast(emitter.place(node.require(0)), shape))
    emit(emitter, instructions, shape, whole(emitter.new(node.outputs[0])), walks, numbers)


def _whole(node: Node, names: list[str]) -> list[Instruction]:
    if node.op_type == "Cast":
        return [(f"Cast {node.outputs[0].element_type.get_type_name()}", (names[0],))]
    if len(names) == 1:
        return [(node.op_type, (names[0],))]
    if node.op_type == "Where":
        return [("Where", tuple(names))]
    instructions: list[Instruction] = [(node.op_type, (names[0], names[1]))]
    for index, name in enumerate(names[2:]):
        instructions.append((node.op_type, (f"t{index}", name)))
    return instructions


def check_operator(node: Node) -> str | None:
    """Why an elementwise operator has no kernel."""
    spelling = spell(node)
    if spelling is not None:
        missing = {op for op, _ in spelling} - FUNCTIONS.keys()
        return f"no kernel for {', '.join(sorted(missing))}" if missing else None
    kinds = {value.element_type for value in node.inputs if value is not None}
    if node.op_type == "Cast":
        return None
    value = node.require(1 if node.op_type == "Where" else 0).element_type
    known = FUNCTIONS if value in (Type.f32, Type.boolean) else WHOLE
    if node.op_type not in known or not all(kind.get_type_name() in MEMORY for kind in kinds):
        return f"{node.op_type} has no kernel for {', '.join(sorted(kind.get_type_name() for kind in kinds))}"
    return None
