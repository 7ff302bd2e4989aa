"""Pairs of scans whose changes are known, and how a comparison fares on them."""
