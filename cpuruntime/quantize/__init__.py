"""`cpuruntime quantize`: from a float32 model and samples to a model of 8 bits in ONNX's QDQ form, with a report.

`form` prepares the model, `calibration` measures its values, `equalisation` scales channels, `writer` writes the
quantised model, `errors` and `times` measure it, `budget` chooses the layers, `tool` does all of it.
"""
