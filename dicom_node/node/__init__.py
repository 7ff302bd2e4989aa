"""The node as a whole: its parts wired together and kept alive, what a person asks of it, and its embedded broker."""
