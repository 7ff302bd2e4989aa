"""Optic-nerve lesions on coronal fat-suppressed T2: eyes, crop, network, explanation and report."""
