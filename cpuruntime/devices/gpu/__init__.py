"""GPU: models as kernels on the devices of OpenCL drivers."""
