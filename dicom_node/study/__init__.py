"""The study's page: waits for the analyses of a study, and puts them together as one picture, text SR, TID 1500 SR and PDF.

`summary_process` makes the objects in a process of its own; the rest of the node imports no highdicom by this room.
"""
