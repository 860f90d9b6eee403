# SPDX-License-Identifier: Apache-2.0
"""ground_node: labels in, ground for planners out."""
