"""MS and NMOSD lesions on brain FLAIR: preprocessing, networks, lesions, and the pipeline that joins them.

The joint network and its input normalisation follow Front Neurosci 2024, 10.3389/fnins.2024.1351387.
"""
