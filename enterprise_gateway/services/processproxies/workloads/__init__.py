"""Kernels as an engine describes them: pure functions of the engine's objects. No I/O."""
