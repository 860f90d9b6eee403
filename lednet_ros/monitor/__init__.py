# SPDX-License-Identifier: Apache-2.0
"""What reads /diagnostics: lednet_top and lednet_latency_report."""
