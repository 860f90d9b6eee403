# SPDX-License-Identifier: Apache-2.0
"""Recorded images, videos and bags to labels, without ROS: lednet_segment."""
