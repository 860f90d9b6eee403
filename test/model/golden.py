# SPDX-License-Identifier: Apache-2.0
"""Weights and image of the golden scores, made anew from a seed by numpy alone.

data/lednet_golden.npz holds what the authors' network (xiaoyufenfei/LEDNet, train/lednet.py) gave
for them, run outside this repository: scores at some rows and columns, names and shapes.
"""

from collections.abc import Iterable

import numpy as np

CONVOLUTION_GAIN = 0.8


def authors_state_dict(
    names: Iterable[str], shapes: Iterable[str], seed: int
) -> dict[str, np.ndarray]:
    """Draw every tensor in order; shapes read '29,3,3,3', and '' is a scalar."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, text in zip(names, shapes, strict=True):
        shape = tuple(int(size) for size in text.split(',') if size)
        if name.endswith('num_batches_tracked'):
            state[name] = np.zeros(shape, np.int64)
            continue
        if len(shape) == 4:  # convolution
            fan_in = shape[1] * shape[2] * shape[3]
            values = rng.standard_normal(shape) * np.sqrt(CONVOLUTION_GAIN / fan_in)
        elif name.endswith(('weight', 'running_var')):  # batch normalisation
            values = rng.uniform(0.5, 1.5, shape)
        else:  # bias, running_mean
            values = rng.standard_normal(shape) * 0.1
        state[name] = values.astype(np.float32)
    return state


def image(seed: int) -> np.ndarray:
    """Make a 1x3x512x1024 picture in [0, 1]: 32-pixel squares and noise."""
    rng = np.random.default_rng(seed)
    squares = np.kron(rng.random((3, 16, 32)), np.ones((1, 32, 32)))
    noise = rng.standard_normal(squares.shape) * 0.05
    return np.clip(squares + noise, 0, 1).astype(np.float32)[None]
