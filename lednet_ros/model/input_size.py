# SPDX-License-Identifier: Apache-2.0
"""How large a network's input may be, in pixels; without torch, for what only asks that."""

MIN_INPUT_SIZE = 32  # below this the pyramid's smallest map would vanish
MAX_INPUT_SIZE = 8192  # a typing error must not become an allocation
