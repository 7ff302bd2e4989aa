"""Training of the perceptron that tells MS from NMOSD by the lesion mask: patterns as they would be found, without images.

`training.train_pattern` draws and learns; `scorer` asks it behind the networks of the mask.
"""
