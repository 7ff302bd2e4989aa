"""FLAIR cases of MS and NMOSD that are made: heads, lesions by written priors, a scanner's contrast and artefacts.

Also real scans varied, with lesions moved between them or painted into them; what is drawn is written as a data set.
"""
