# SPDX-License-Identifier: Apache-2.0
"""Images: decoding, sources, and pictures for people. No ROS."""
