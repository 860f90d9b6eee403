# SPDX-License-Identifier: Apache-2.0
"""Recorded bags, whole or damaged, in each form that rosbags knows. Without ROS."""
