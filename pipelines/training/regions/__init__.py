"""Training of the network that tells the structures of a brain, on synthetic FLAIR, and its scores."""
