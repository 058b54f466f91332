"""From a Python function to machine code.

`kernel.py` declares kernels, `inline.py` their helpers, `build.py` compiles and caches them by the digest of
`sources.py`; `isa.py` says what the processor offers; `simd.py` is the vector type, beside it `scalars.py`,
`shuffle.py`, `wide_words.py` and `stack.py`.
"""
