# SPDX-License-Identifier: Apache-2.0
"""What every room uses: errors, paths, files that appear whole, threads."""
