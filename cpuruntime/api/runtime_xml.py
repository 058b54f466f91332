"""The executed graph in OpenVINO's XML, as tools that show it read it."""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from cpuruntime.api.model import Model
from cpuruntime.errors import printable


def write_xml(model: Model, path: str | PathLike[str]) -> None:
    """Write a model of `runtime_model`: its steps as layers, their notes as data. Raises OSError."""
    net = Element("net", name=printable(model.friendly_name), version="11")
    layers, edges = SubElement(net, "layers"), SubElement(net, "edges")
    steps = model.get_ordered_ops()
    made = {port for node in steps for port in node.outputs()}
    weights = dict.fromkeys(port for node in steps for port in node.input_values() if port not in made)
    nodes = [*(port.get_node() for port in weights), *steps]
    places = {port: (number, index) for number, node in enumerate(nodes) for index, port in enumerate(node.outputs())}
    for number, node in enumerate(nodes):
        sources = node.input_values()
        kind = node.get_type_name()
        layer = SubElement(layers, "layer", id=str(number), name=printable(node.friendly_name), type=kind)
        SubElement(layer, "data", {name: printable(str(note.value)) for name, note in node.rt_info.items()})
        _add_ports(layer, "input", sources, 0)
        _add_ports(layer, "output", [] if kind == "Result" else node.outputs(), len(sources))
        for index, source in enumerate(sources):
            layer_of, output = places[source]
            start = {"from-layer": str(layer_of), "from-port": str(nodes[layer_of].get_input_size() + output)}
            SubElement(edges, "edge", start | {"to-layer": str(number), "to-port": str(index)})
    indent(net)
    ElementTree(net).write(fspath(path), encoding="utf-8", xml_declaration=True)


def _add_ports(layer: Element, side: str, ports: list[Any], first: int) -> None:
    if not ports:
        return
    group = SubElement(layer, side)
    for number, port in enumerate(ports, first):
        element = SubElement(group, "port", id=str(number), precision=port.element_type.type_name.upper())
        for extent in port.partial_shape if port.partial_shape.rank.is_static else ():
            SubElement(element, "dim").text = str(extent.get_length() if extent.is_static else -1)
