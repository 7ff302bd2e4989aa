"""Training, comparison and scores of the optic nerve networks: paper 0's protocol, on phantoms or a hospital's own series.

NeuroImage Clin 2022, doi:10.1016/j.nicl.2022.103187.
"""
