# SPDX-License-Identifier: Apache-2.0
"""What runs the network: registry.py lists it, base.py has the protocol."""
