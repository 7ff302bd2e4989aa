"""What comes in over DICOM: who may call, the bytes they send, and how each image finds its place in the
spool.

Success is answered only for what lies on disk; nothing that the network says becomes a part of a path.
"""
