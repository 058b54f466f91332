"""From an ONNX file, its bytes or a message to a graph; and the models that the onnx package ships."""
