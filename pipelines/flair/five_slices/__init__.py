"""MS versus NMOSD from five axial FLAIR slices: a 2D ResNet18 with Grad-CAM ("paper 1").

`slices` chooses the input, `network` is the ResNet, `explain` makes its maps, `model` joins them with the weights.
"""
