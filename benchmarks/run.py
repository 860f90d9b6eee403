#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmark with its knobs in sight. `lednet_benchmark` sets them from the command line."""

from lednet_ros.cli.benchmark import benchmark
from lednet_ros.cli.benchmark_measuring import Knobs

KNOBS = Knobs(
    backends=('torch', 'onnxruntime'),  # on a GPU: ('tensorrt', 'torch')
    sizes=((256, 512), (512, 1024), (1024, 2048)),  # height, width of the network's input
    batches=(1, 2, 4),
    rounds=15,     # of one batch each; more on a busy machine
    device='cpu',  # or 'cuda:0'
    classes=20,    # the shipped network has 11; they are repeated
    checkpoint='',
    images='',     # a directory of camera images; '': frames drawn by code
)

if __name__ == '__main__':
    print(benchmark(KNOBS).markdown())
