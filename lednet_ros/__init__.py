# SPDX-License-Identifier: Apache-2.0
"""LEDNet on a robot's cameras: semantic segmentation for ROS 2."""

import os

from lednet_ros.cpu import set_up_threads

# Here, because libraries read these as they are loaded, and this is loaded before them.
set_up_threads()
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')  # ONNX Runtime (1.29 on) reports to Microsoft
