"""The wire: who may call, and the bytes they send, on the disk of the inbox before Success is answered.

Nothing that the network says becomes a part of a path; what happens to a received file later is the intake's.
"""
