"""The overview for the administrator: what is stuck and what mends it, workers, destinations, disk, today.

:mod:`~dicom_node.overview.collect` makes it, from the database; the console, the web page and the metrics show it.
"""
