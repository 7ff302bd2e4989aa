"""Synthetic head volumes with known truth, for the demo, for tests and for a first look on a fresh machine.

Made from the MNI152 template alone; nobody's images are in them.
"""
