"""The project's models with plain float weights, as other runtimes read them.

The files keep their weights as int8 in blocks (ONNX `DequantizeLinear` with `block_size`); everything that
is made of constants alone is computed here once, which leaves the graph that a user would have downloaded.
"""

import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator


def plain(path):
    """The model of a file, with each dequantised or reshaped constant in place of what made it."""
    model = onnx.load(str(path))
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        names = [name for name in node.input if name]
        if node.op_type in ("DequantizeLinear", "Reshape") and all(name in constants for name in names):
            values = {name: constants[name] for name in names}
            (constants[node.output[0]],) = evaluate(model, node, values)
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input}
    initialisers = [
        numpy_helper.from_array(value, name) for name, value in constants.items() if name in used
    ]
    inputs = [value for value in graph.input if value.name in used and value.name not in constants]
    outputs = list(graph.output)
    folded = onnx.helper.make_graph(kept, graph.name, inputs, outputs, initialisers)
    return onnx.helper.make_model(
        folded, opset_imports=model.opset_import, ir_version=model.ir_version
    )


def evaluate(model, node, values):
    """One node on constants."""
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in values.items()
    ]
    outputs = [onnx.ValueInfoProto(name=node.output[0])]
    graph = onnx.helper.make_graph([node], "one", inputs, outputs)
    one = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return ReferenceEvaluator(one).run(None, values)
