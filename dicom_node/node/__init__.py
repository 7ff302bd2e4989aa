"""The node as a whole: its parts wired together and kept alive, what a person asks of it, and the broker that it brings along."""
