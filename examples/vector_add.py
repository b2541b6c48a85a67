"""Add two vectors on the first GPU there is, or on the processor: `python examples/vector_add.py`."""

import numpy as np
import trio

from rookery import gpu

SOURCE = """
kernel void add(global const float *a, global const float *b, global float *out, int n)
{
    int i = get_global_id(0);
    if (i < n)
        out[i] = a[i] + b[i];
}
"""


async def main() -> None:
    rng = np.random.default_rng(seed=1)
    x, y = rng.random((2, 1_000_000), dtype=np.float32)

    async with gpu.open_device() as device:
        add = await device.kernel(SOURCE, "add")
        a, b = await device.upload(x), await device.upload(y)
        out = await device.empty(x.shape)
        await add(a, b, out, x.size)
        result = await out.read()

    assert np.array_equal(result, x + y)
    print(f"{x.size:,} additions on {device.info.name}, all of them right")


trio.run(main)
