"""Supervised actors for trio and asyncio, with kernels on the GPU."""
