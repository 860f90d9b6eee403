#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Training by turns, for busy.py: seconds on stdin, milliseconds a step on stdout.

    benchmarks/busy_training.py [--size WxH] [--batch N]

Says 'ready'; then each line that it reads is a number of seconds for which it goes on in
lednet_train's loop, workers and all, on images made here. The first third of them is for it to
notice how busy the machine is; of the rest it prints each step's wall and CPU time (the workers'
too) in milliseconds, and how many threads it had: '12.3 20.1 2,12.5 19.9 2'.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from lednet_ros.datasets.checks import check_data
from lednet_ros.datasets.layouts import open_data_set
from lednet_ros.training.recipe import load_recipe
from lednet_ros.training.train import Job, Listener, Training

# Environments: 'ours' is lednet_train's own, which follows the free cores; others fix the
# threads, and how long OpenMP's wait busily (by itself libgomp does for 300 000 rounds), or have
# malloc give large blocks back to the system as soon as they are free.
ALL = {'OMP_NUM_THREADS': str(len(os.sched_getaffinity(0)))}
CANDIDATES: dict[str, dict[str, str]] = {
    'ours': {},
    'all, passive': {**ALL, 'OMP_WAIT_POLICY': 'PASSIVE'},
    **{f'all, spin {count}': {**ALL, 'GOMP_SPINCOUNT': str(count)}
       for count in (0, 1000, 300_000)},
    'one thread': {'OMP_NUM_THREADS': '1'},
    'memory as glibc has it': {'MALLOC_PERTURB_': '0'},
}
IMAGES = 16


def main(argv: list[str] | None = None) -> int:
    """Do a step for each line of stdin."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--size', default='480x360', metavar='WxH')
    parser.add_argument('--batch', type=int, default=8)
    options = parser.parse_args(argv)
    width, height = map(int, options.size.split('x'))
    with tempfile.TemporaryDirectory() as directory:
        _make_data(Path(directory), height, width)
        _train(Path(directory), height, width, options.batch)
    return 0


def _make_data(root: Path, height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    for place in ('train', 'trainannot', 'val', 'valannot'):
        (root / place).mkdir()
    for split, count in (('train', IMAGES), ('val', 1)):
        for i in range(count):
            labels = rng.integers(0, 11, (12, 16), np.uint8)
            labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
            noise = rng.integers(0, 56, (height, width, 3), np.uint8)
            cv2.imwrite(str(root / f'{split}annot' / f'{i}.png'), labels)
            cv2.imwrite(str(root / split / f'{i}.png'), labels[..., None] * 20 + noise)


def _train(data: Path, height: int, width: int, batch: int) -> None:
    train, val = (open_data_set(data, split) for split in ('train', 'val'))
    report = check_data(train)  # each pair so often that no epoch ends, which validates and saves
    report = replace(report, data=replace(train, pairs=train.pairs * 10_000))
    recipe = load_recipe('camvid', [
        f'input_height={height}', f'input_width={width}', f'crops=[[0, {height}, {width}]]',
        f'batch={batch}', 'epochs=1000000'])
    turn = Turn()
    training = Training(Job(recipe, report, val, listener=Listener(on_step=lambda step: (
        turn.step(training)))))
    training.run()


class Turn:
    """Counts the steps of a turn, and waits for the next when its time is over."""

    def __init__(self) -> None:
        self._ends_s = self._counts_from_s = 0.0
        self._steps: list[list[float]] = []  # the clocks after each that counts
        self._threads: list[int] = []

    def step(self, training: Training) -> None:
        """Take note of a step, at whose end the training calls this."""
        from torch import get_num_threads  # not above: lednet_ros comes first, and sets it up
        clocks = _clocks_s()
        if clocks[0] >= self._counts_from_s:
            self._steps.append(clocks)
            self._threads.append(get_num_threads())
        if clocks[0] < self._ends_s or len(self._steps) == 1:
            return
        if self._ends_s:
            print(','.join(
                f'{1e3 * (wall_s - from_s):.2f} {1e3 * (cpu_s - used_s):.2f} {threads}'
                for (from_s, used_s), (wall_s, cpu_s), threads in zip(
                    self._steps[:-1], self._steps[1:], self._threads[1:], strict=True)),
                flush=True)
        else:
            print('ready', flush=True)
        line = sys.stdin.readline()
        training.is_stopped = not line
        seconds = float(line or 0.0)
        self._counts_from_s = time.perf_counter() + seconds / 3
        self._ends_s = time.perf_counter() + seconds
        self._steps, self._threads = [], []


def _clocks_s() -> list[float]:
    cpu_s = time.process_time()
    for worker in multiprocessing.active_children():
        fields = Path(f'/proc/{worker.pid}/stat').read_text().rpartition(') ')[2].split()
        cpu_s += (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
    return [time.perf_counter(), cpu_s]


if __name__ == '__main__':
    sys.exit(main())
