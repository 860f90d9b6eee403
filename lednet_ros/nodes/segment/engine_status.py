# SPDX-License-Identifier: Apache-2.0
"""What runs the network, in words for /diagnostics. Plain functions of what is there."""

from __future__ import annotations

import platform

from lednet_ros.nodes.segment.diagnostics import ERROR, OK, WARN, Status
from lednet_ros.nodes.shared.malloc import resident_mb
from lednet_ros.segmentation import Segmenter
from lednet_ros.segmentation.engine_build import BuildState


def compiling_status(build: BuildState) -> Status:
    """While an engine is built."""
    return Status(WARN, f'compiling: {build.stage}',
                  {'state': 'compiling', 'elapsed_s': build.elapsed_s})


def configuring_status() -> Status:
    """While the network is loaded and run for the first time."""
    return Status(WARN, 'configuring', {'state': 'configuring'})


def unconfigured_status(problem: str) -> Status:
    """While there is no network, because of a problem or as nobody has asked for one."""
    return Status(ERROR if problem else OK, problem or 'not configured', {})


def engine_status(segmenter: Segmenter, problem: str) -> Status:
    """While there is a network; `problem`: what its last batch failed with."""
    checkpoint = segmenter.checkpoint
    height, width = segmenter.input_size
    name, _, why = segmenter.backend.partition(' (')
    backend, device, precision = name.split()
    values: dict[str, object] = {
        'state': 'failing' if problem else 'ready',
        'backend': backend,
        'device': device,
        'precision': precision,
        'why': why.removesuffix(')'),
        'input': f'{width}x{height}',
        'checkpoint': checkpoint.name,
        'checkpoint_sha256': checkpoint.sha256[:16],
        'labels': checkpoint.labels.name,
        'classes': len(checkpoint.labels),
    }
    if segmenter.build_s is not None:
        values['cached'] = not segmenter.build_s
        values['build_s'] = segmenter.build_s
    if segmenter.self_check is not None:
        values['self_check'] = segmenter.self_check
        values['self_check_agreement'] = f'{segmenter.self_check.agreement:.5f}'
    values['memory_mb'] = resident_mb() or ''
    values.update(segmenter.device_health())
    return Status(ERROR if problem else OK, problem or segmenter.backend, values,
                  hardware_id=f'{platform.node()} {device}')
