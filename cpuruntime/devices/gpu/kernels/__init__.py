"""Texts of GPU kernels in one dialect of C: OpenCL C behind a prelude of macros that has a form for CUDA C++, too."""
