# SPDX-License-Identifier: Apache-2.0
"""Training and evaluation: labelled images -> checkpoints, checkpoints -> scores. No ROS."""
