"""The worklog: one readable line a step in worklog.log, the same as JSON in worklog.jsonl, and metrics.

What may be said is listed in :mod:`dicom_node.worklog.events`; patients have no place in that list.
"""
