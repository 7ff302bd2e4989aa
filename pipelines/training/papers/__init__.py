"""Protocols of the papers, to compare with: their folds and draws, their published figures and tables, their networks.

Three on FLAIR and one on the optic nerves; it is `flair.comparison` and `fatsat.comparison` that train and fill the tables.
"""
