# SPDX-License-Identifier: Apache-2.0
"""One training of a benchmark: into a directory of its own, gone on with where it was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lednet_ros.datasets.checks import check_data
from lednet_ros.datasets.layouts import DataSet
from lednet_ros.model.checkpoint import Checkpoint
from lednet_ros.segmentation.devices import choose_device
from lednet_ros.training.progress import show_progress
from lednet_ros.training.recipe import Recipe
from lednet_ros.training.run_dir import Output
from lednet_ros.training.train import Job, Training


def train(
    recipe: Recipe, data: DataSet, val: DataSet, directory: Path, init: Checkpoint | None = None,
    **identity: Any,
) -> Mapping[str, Any]:
    """
    Train, and return the history's last row, with `seconds` of the whole.

    `identity` is what else must be as it was for a training to go on.
    """
    report = check_data(data)
    report.refuse_faults()
    with show_progress(True) as listener:
        output = Output(directory, {
            **recipe.to_dict(), 'data': [pair.image.name for pair in data.pairs],
            'init': init.sha256 if init else None, **identity})
        output.begin(recipe.to_dict())
        training = Training(Job(
            recipe, report, val, output, init, listener=listener, name=directory.name,
            device=choose_device('auto')))
        try:
            training.run()
        finally:
            output.close()
    return {**training.position.history[-1], 'seconds': training.position.seconds}
