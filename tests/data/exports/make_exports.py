"""Makes the graphs of this folder: torch's two exporters and scikit-learn's converter, run on models of tiny sizes.

    python tests/data/exports/make_exports.py            # all, in a virtual environment of its own
    python tests/data/exports/make_exports.py bert gpt2  # some

    pip install torch torchvision transformers onnx onnxscript scikit-learn skl2onnx

Large weights are left out: what is stored says how to draw them, see tests/support/exports.py.
"""

from __future__ import annotations

import inspect
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

import image_recipes
import numpy as np
import onnx
import sequence_recipes
import table_recipes
import text_recipes
import torch
from recipe import Recipe
from support.exports import FOLDER, draw, strip

RECIPES = {
    recipe.__name__: recipe
    for module in (text_recipes, image_recipes, sequence_recipes, table_recipes)
    for recipe in module.RECIPES
}


def make(name: str) -> None:
    """Writes the graph `name`."""
    torch.manual_seed(0)
    recipe = RECIPES[name]()
    model = recipe if isinstance(recipe, onnx.ModelProto) else exported(recipe)
    strip(model)
    clean(model)
    path = FOLDER / f"{name}.onnx"
    onnx.save(model, path)
    print(f"{name}: {len(model.graph.node)} nodes, {path.stat().st_size / 1024:.0f} kB", flush=True)


def exported(recipe: Recipe) -> onnx.ModelProto:
    """The model as the recipe's exporter writes it, with its cases in the metadata."""
    cases = recipe.stated_cases()
    arguments = tuple(example(recipe, name, cases[0]) for name in recipe.inputs)
    dynamic = {name: recipe.dynamic_axes(name) for name in recipe.inputs}
    options: dict[str, Any] = dict(input_names=list(recipe.inputs), output_names=recipe.outputs)
    options |= dict(opset_version=recipe.opset) if recipe.opset else {}
    module = recipe.module if isinstance(recipe.module, torch.jit.ScriptModule) else recipe.module.eval()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "model.onnx"
        if recipe.dynamo:
            shapes = nested(module, [dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in dynamic.values()])
            torch.onnx.export(module, arguments, path, dynamo=True, dynamic_shapes=shapes, **options)
        else:
            for index, output in enumerate(recipe.outputs):
                if recipe.output_axes:
                    dynamic[output] = recipe.output_axes[index]
            torch.onnx.export(module, arguments, path, dynamo=False, dynamic_axes=dynamic, **options)
        model = onnx.load(path)
    entry = model.metadata_props.add()
    entry.key, entry.value = "cases", json.dumps(cases)
    return model


def nested(module: torch.nn.Module, shapes: list[Any]) -> tuple[Any, ...]:
    """The shapes in the order of the module's arguments, those of `*arguments` in a tuple."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    if parameters[-1].kind is not inspect.Parameter.VAR_POSITIONAL:
        return tuple(shapes)
    count = len(parameters) - 1
    return (*shapes[:count], tuple(shapes[count:]))


def example(recipe: Recipe, name: str, case: dict[str, Any]) -> torch.Tensor:
    """The argument that the exporter runs the model with."""
    kind, what = case[name]
    numbers = np.array(what) if kind == "given" else draw(np.random.default_rng(0), kind, what)
    return torch.from_numpy(numbers).to(recipe.types.get(name, torch.from_numpy(numbers).dtype))


def clean(model: onnx.ModelProto) -> None:
    """Takes out what describes the exporter's machine: places in source files, and its remarks."""
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        graph.doc_string = ""
        del graph.metadata_props[:]
        for value in (*graph.input, *graph.output, *graph.value_info):
            value.doc_string = ""
            del value.metadata_props[:]
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
            graphs += [g for attribute in node.attribute for g in (attribute.g, *attribute.graphs) if g.node]


if __name__ == "__main__":
    for each in sys.argv[1:] or RECIPES:
        make(each)
