"""The seam to GPUs: what a driver must offer, a runtime on OpenCL, and one without a driver for tests of faults."""
