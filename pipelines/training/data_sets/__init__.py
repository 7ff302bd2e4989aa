"""Data sets to train on: ``index.csv``, its FLAIR cases on the cube that the networks see, and raw scans made into cases.

The index file serves every data set, that of FAT-SAT too; a packed `Sample` is what a network learns from.
"""
