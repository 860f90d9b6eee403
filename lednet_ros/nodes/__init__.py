# SPDX-License-Identifier: Apache-2.0
"""The ROS nodes. Nothing below imports ROS."""
