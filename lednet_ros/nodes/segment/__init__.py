# SPDX-License-Identifier: Apache-2.0
"""segment_node: camera images in, labels out."""
