# SPDX-License-Identifier: Apache-2.0
"""
Camera frames to label images. `Segmenter` is the way in; nothing here knows of ROS.

Each name is loaded when it is first used: what only asks for backends' names needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lednet_ros.segmentation.config import SegmenterConfig
    from lednet_ros.segmentation.segmenter import Segmentation, Segmenter

__all__ = ['Segmentation', 'Segmenter', 'SegmenterConfig']
_MODULES = {'Segmentation': 'segmenter', 'Segmenter': 'segmenter', 'SegmenterConfig': 'config'}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
