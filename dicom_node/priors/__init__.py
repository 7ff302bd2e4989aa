"""Earlier studies of a patient: found in the node's own store and by C-FIND, gated by identity, chosen, and retrieved.

`dicom_node.priors.prior.priors_of` is what a comparison asks.
"""
