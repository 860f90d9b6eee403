# SPDX-License-Identifier: Apache-2.0
"""Sheets of what a training will see: views by its recipe, and each knob of it by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lednet_ros.datasets.layouts import DataSet
from lednet_ros.datasets.sheet import labelled, write_sheet
from lednet_ros.images.annotate import legend, shares
from lednet_ros.training.augmentation import augment, paste_objects, resize_pair, resized
from lednet_ros.training.distributed import Processes
from lednet_ros.training.loading import Schedule, Views
from lednet_ros.training.recipe import Recipe

_PICTURES, _COLUMNS = 8, 4  # each view twice: as it is, and below it labelled
_LEGEND, _ROOM = 620, 320   # the legend's width and least height in pixels
_DRAWS = 8  # of a knob, of which the clearest is shown: some leave half of the images alone

# The knobs that change a view, and their values without effect.
UNCHANGED: Mapping[str, Any] = {
    'scale': (1.0, 1.0), 'flip': False, 'shift': 0, 'rotation': 0.0, 'perspective': 0.0,
    'white_balance': 0.0, 'hue': 0.0, 'color': 0.0, 'grey': 0.0, 'shading': 0.0, 'blur': 0.0,
    'noise': 0.0, 'jpeg': 0, 'copy_paste': 0.0}


def write_views(data: DataSet, recipe: Recipe, path: Path) -> None:
    """
    Write the first views of the last epoch: those of the largest crops.

    Raise ConfigError, DataError.
    """
    schedule = Schedule(len(data), recipe, recipe.epochs)
    views = Views(data, schedule)
    last = (recipe.epochs - 1) * schedule.steps_per_epoch
    keys = [key for batch in islice(schedule.batches(last, Processes()), _PICTURES)
            for key in batch][:_PICTURES]
    rows, seen = [], []
    for i in range(0, len(keys), _COLUMNS):
        pairs = [views.batch([key]) for key in keys[i:i + _COLUMNS]]
        names = [data.pairs[index].image.name for _, index in keys[i:i + _COLUMNS]]
        rows += [(image[0], name) for (image, _), name in zip(pairs, names, strict=True)]
        rows += [(labelled(image[0], labels[0], data.labels), 'labelled')
                 for image, labels in pairs]
        seen += [labels.ravel() for _, labels in pairs]
    classes = shares(np.concatenate(seen), data.labels)
    write_sheet(rows, min(_COLUMNS, len(keys)), path,
                lambda height: legend(max(height, _ROOM), _LEGEND, classes,
                                      'as the network is shown them'))


def write_knobs(data: DataSet, recipe: Recipe, path: Path) -> None:
    """
    Write an image of the data as each knob of the recipe that is on changes it by itself.

    Raise ConfigError, DataError.
    """
    image, labels = _whole(data, len(data) // 2, recipe)
    pictures = [(image, 'as it is')]
    for knob, unchanged in UNCHANGED.items():
        value = getattr(recipe, knob)
        if value == unchanged:
            continue
        # Grey by itself, or a share of the draws would show nothing.
        alone = replace(recipe, **{**UNCHANGED, knob: 1.0 if knob == 'grey' else value})
        draws = []
        for seed in range(_DRAWS):
            rng = np.random.default_rng([recipe.seed, seed])
            view = augment(image, labels, alone, None, rng)
            if knob == 'copy_paste':
                other = _whole(data, seed * len(data) // _DRAWS, recipe)
                if other[0].shape == image.shape:
                    view = paste_objects(*view, *other, rng)
            draws.append(view[0])
        pictures.append((
            max(draws, key=lambda seen: float(np.abs(seen - image.astype(float)).mean())),
            f'{knob} {_text(value)}'))
    write_sheet(pictures, _COLUMNS, path)


def _whole(data: DataSet, index: int, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Return a pair in the size that it has before scale and crop."""
    image, labels = data.read(index)
    return resize_pair(image, labels, *resized(recipe, image.shape[:2]))


def _text(value: Any) -> str:
    return ' to '.join(map(str, value)) if isinstance(value, tuple) else str(value)
