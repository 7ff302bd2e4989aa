"""Findings become DICOM objects here: outlines, SEG, TID 1500 SR, text SR and maps, with a manifest beside them.

`context` and `manifest` are what the node reads; they import no highdicom.
"""
