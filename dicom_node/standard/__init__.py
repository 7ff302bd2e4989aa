"""What the DICOM standard says: geometry, codes, status values, UIDs and presentation contexts.

It imports nothing of ours.
"""
