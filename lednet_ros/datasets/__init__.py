# SPDX-License-Identifier: Apache-2.0
"""Labelled images as training reads them: layouts, checks, sample sheets."""
