"""Anatomy of the patient's own brain, and the region that each lesion lies in by it."""
