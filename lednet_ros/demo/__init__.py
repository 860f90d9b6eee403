# SPDX-License-Identifier: Apache-2.0
"""lednet_demo: a clip, the nodes, and pictures of what they publish."""
