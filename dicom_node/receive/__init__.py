"""Receiving over DICOM: admits callers, and has what they send on the disk, in the inbox, before it answers Success.

Nothing that the network says becomes a part of a path; what happens to a received file later is the intake's.
"""
