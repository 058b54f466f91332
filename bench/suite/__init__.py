"""ONNX's backend test suite: its cases, engines that run them, processes with time limits, the report."""
