"""The DICOM standard's own matters: geometry, codes, status values, UIDs and presentation contexts.

It imports nothing of ours.
"""
