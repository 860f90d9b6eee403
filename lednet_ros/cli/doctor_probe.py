# SPDX-License-Identifier: Apache-2.0
"""
Facts about one part of this machine, as JSON: what lednet_doctor asks for in a child process.

    python -m lednet_ros.cli.doctor_probe torch

A library that is broken may end the process that imports it, or never return: so each is imported
in a child. Nothing here judges; that is doctor.py's matter.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]


def opencv_facts() -> Facts:
    """Return numpy's and OpenCV's versions, and whether cv_bridge fits that numpy."""
    import numpy as np
    facts: Facts = {'numpy': np.__version__}
    import cv2
    build = cv2.getBuildInformation()
    facts |= {'opencv': cv2.__version__, 'opencv_place': os.path.dirname(cv2.__file__),
              'ffmpeg': any(line.split()[:2] == ['FFMPEG:', 'YES'] for line in build.splitlines())}
    return facts


def cv_bridge_facts() -> Facts:
    """Return whether cv_bridge is there, and why it must not be called with this numpy."""
    if importlib.util.find_spec('cv_bridge') is None:
        return {'is_installed': False}
    from lednet_ros.nodes.shared.image_messages import cv_bridge_problem
    return {'is_installed': True, 'problem': cv_bridge_problem()}


def torch_facts() -> Facts:
    """Return torch's version and build, and the GPUs that it sees."""
    import torch
    facts: Facts = {'version': torch.__version__, 'cuda': torch.version.cuda,
                    'threads': torch.get_num_threads(), 'gpus': []}
    from lednet_ros.common.errors import LednetRosError
    from lednet_ros.segmentation.device_errors import explained
    from lednet_ros.segmentation.devices import require_code_for, why_no_gpu
    if not torch.cuda.is_available():
        facts['why_no_gpu'] = why_no_gpu()
        return facts
    cudnn: Any = torch.backends.cudnn
    facts |= {'architectures': torch.cuda.get_arch_list(), 'cudnn': cudnn.version()}
    for number in range(torch.cuda.device_count()):
        gpu: Facts = {'name': f'cuda:{number}', 'capability': 'unknown'}
        device = torch.device('cuda', number)
        try:
            with explained(f'{device}', device, 'see what nvidia-smi and dmesg say of it'):
                properties = torch.cuda.get_device_properties(number)
                gpu |= {'name': properties.name,
                        'capability': f'{properties.major}.{properties.minor}'}
                require_code_for(device)
                free, total = torch.cuda.mem_get_info(number)
                gpu |= {'free_mb': free / 2**20, 'total_mb': total / 2**20}
        except LednetRosError as error:
            gpu['refusal'] = str(error)
        facts['gpus'].append(gpu)
    return facts


def tensorrt_facts() -> Facts:
    """Return whether the tensorrt backend can be used; its own line says why not."""
    from lednet_ros.common.errors import LednetRosError
    from lednet_ros.segmentation.backends.tensorrt import import_both
    try:
        torch_tensorrt, tensorrt, doubt = import_both()
    except LednetRosError as error:
        return {'refusal': str(error)}
    return {'torch_tensorrt': torch_tensorrt.__version__, 'tensorrt': tensorrt.__version__,
            'doubt': doubt}


def onnxruntime_facts() -> Facts:
    """Return ONNX Runtime's version."""
    import onnxruntime
    return {'version': onnxruntime.__version__,
            'providers': onnxruntime.get_available_providers()}


def ros_facts() -> Facts:
    """Return what of ROS 2 is there, and whether a node can be made."""
    from lednet_ros.common.errors import LednetRosError
    from lednet_ros.nodes.shared.ros_start import check_middleware
    try:
        check_middleware()
    except LednetRosError as error:
        return {'middleware': os.environ['RMW_IMPLEMENTATION'], 'refusal': str(error)}
    import rclpy
    facts: Facts = {'rclpy': os.path.dirname(rclpy.__file__),
                    'middleware': rclpy.get_rmw_implementation_identifier()}
    for package in ('vision_msgs', 'tf2_ros', 'sensor_msgs', 'diagnostic_msgs', 'nav_msgs'):
        if importlib.util.find_spec(package) is None:
            facts.setdefault('missing', []).append(package)
    from lednet_ros.nodes.shared import ros_start
    try:
        ros_start.init([])
        ros_start.make_node(lambda: rclpy.create_node('lednet_doctor')).destroy_node()
        rclpy.try_shutdown()
    except LednetRosError as error:
        facts['refusal'] = str(error)
    return facts


def checkpoint_facts() -> Facts:
    """Return whether the checkpoint that comes with the package is whole."""
    from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
    checkpoint = load_checkpoint(default_checkpoint())
    return {'name': checkpoint.name, 'labels': checkpoint.labels.name}


def cache_facts() -> Facts:
    """Return where engines are kept, how much room there is, and what they were made with."""
    import shutil
    from pathlib import Path

    from lednet_ros.segmentation.backends.engine_cache import EngineCache
    cache = EngineCache()
    if cache.directory is None:
        return {'directory': '', 'can_keep': False, 'free_mb': 0.0, 'engines': []}
    place: Path = cache.directory
    can_keep = cache.can_keep()
    while not place.exists():
        place = place.parent
    return {'directory': str(cache.directory), 'can_keep': can_keep,
            'free_mb': shutil.disk_usage(place).free / 2**20,
            'engines': [{'kind': entry.key.get('kind'), 'versions': entry.key.get('versions'),
                         'is_whole': cache.is_whole(entry)} for entry in cache.entries()]}


PROBES: dict[str, Callable[[], Facts]] = {
    'opencv': opencv_facts, 'cv_bridge': cv_bridge_facts, 'torch': torch_facts,
    'tensorrt': tensorrt_facts, 'onnxruntime': onnxruntime_facts, 'ros': ros_facts,
    'checkpoint': checkpoint_facts, 'cache': cache_facts,
}


def _library(error: BaseException) -> str:
    """Return which installed library an error comes from: torch may fail for numpy's sake."""
    found, trace = '', error.__traceback__
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get('__name__', '')).partition('.')[0]
        if name not in (*sys.stdlib_module_names, 'importlib', '__main__', 'lednet_ros'):
            found = name
        trace = trace.tb_next
    return found


def main(name: str) -> int:
    """Print one part's facts as a line of JSON, or what importing it raised."""
    answer: Facts
    try:
        answer = PROBES[name]()
    except BaseException as error:  # whatever a library raises is what was found
        lines = str(error).strip().splitlines() or ['']
        answer = {'raised': f'{type(error).__name__}: {lines[0][:300]}'.rstrip(': '),
                  'is_missing': getattr(error, 'name', None)
                  if isinstance(error, ModuleNotFoundError) else None,
                  'library': _library(error)}
    print(f'\n{json.dumps(answer)}', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
