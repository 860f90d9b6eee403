# SPDX-License-Identifier: Apache-2.0
"""LEDNet on a robot's cameras: semantic segmentation for ROS 2."""
