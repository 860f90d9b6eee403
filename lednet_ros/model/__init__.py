# SPDX-License-Identifier: Apache-2.0
"""The network, its labels and the checkpoint file that holds both."""
