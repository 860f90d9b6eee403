# SPDX-License-Identifier: Apache-2.0
"""What labelling tools export, with polygons, run lengths or brush masks, as label images."""
