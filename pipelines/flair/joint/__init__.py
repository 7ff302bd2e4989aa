"""The joint segmentation and classification network of Front Neurosci 2024, 10.3389/fnins.2024.1351387 ("paper 3").

`network` puts together what `blocks`, `swin`, `sharing`, `segmentation` and `classification` define.
"""
