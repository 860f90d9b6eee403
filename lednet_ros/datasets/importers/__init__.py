# SPDX-License-Identifier: Apache-2.0
"""
What labelling tools export, with polygons, run lengths or brush masks, as label images.

A new tool is a module here and a row in opening.py. A data set on disk that needs no drawing is
described by a YAML file, as in ../descriptors/.
"""
