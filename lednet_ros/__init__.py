# SPDX-License-Identifier: Apache-2.0
"""
LEDNet on a robot's cameras: semantic segmentation for ROS 2.

The names in `__all__` are public: they change only with the version number, by semantic
versioning. Each is loaded when it is first used, as most of the package runs without torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lednet_ros.common.cpu import set_up_threads

if TYPE_CHECKING:
    from lednet_ros.model.checkpoint import load_checkpoint, save_checkpoint
    from lednet_ros.model.labels import LabelSet
    from lednet_ros.model.lednet import LEDNet
    from lednet_ros.segmentation import Segmentation, Segmenter, SegmenterConfig

__version__ = '0.1.0'
__all__ = [
    'LEDNet', 'LabelSet', 'Segmentation', 'Segmenter', 'SegmenterConfig', '__version__',
    'load_checkpoint', 'save_checkpoint',
]
_MODULES = {
    'LEDNet': 'model.lednet', 'LabelSet': 'model.labels', 'Segmentation': 'segmentation',
    'Segmenter': 'segmentation', 'SegmenterConfig': 'segmentation',
    'load_checkpoint': 'model.checkpoint', 'save_checkpoint': 'model.checkpoint',
}

# Here, because libraries read these as they are loaded, and this is loaded before them.
set_up_threads()
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')  # ONNX Runtime (1.29 on) reports to Microsoft


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
