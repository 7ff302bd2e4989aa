"""Lesion volumes of a cohort of patients: its file, a patient's place in it, and how a file is made of the node's own studies.

Nothing is compared without a file that the configuration names: no norms ship.
"""
