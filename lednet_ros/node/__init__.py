# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes: messages in, messages out. Nothing here imports torch."""
