"""Training, evaluation, comparison and calibration of the networks: what ``dicom-node models`` runs, and the node never does.

`networks` has each by its name, a `trainable.Trainable` of `flair`, `fatsat` or `pattern`; these stand on `papers` (published
protocols, tables, networks), `scoring`, `synthetic` (cases that are made) and `data_sets`. What is installed with the extra
``train`` alone comes from `extra`.
"""
