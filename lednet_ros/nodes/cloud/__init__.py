# SPDX-License-Identifier: Apache-2.0
"""semantic_cloud_node: labels and depth or a LiDAR's points in, labels in three dimensions out."""
