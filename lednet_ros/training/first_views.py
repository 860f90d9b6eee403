# SPDX-License-Identifier: Apache-2.0
"""A sheet of what a training will see: views by its recipe, with their labels laid over them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from lednet_ros.datasets.layouts import DataSet
from lednet_ros.datasets.sheet import labelled, write_sheet
from lednet_ros.images.annotate import legend, shares
from lednet_ros.training.distributed import Processes
from lednet_ros.training.loading import Schedule, Views
from lednet_ros.training.recipe import Recipe

_PICTURES, _COLUMNS = 8, 4  # each view twice: as it is, and below it labelled
_LEGEND, _ROOM = 620, 320   # the legend's width and least height in pixels


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
