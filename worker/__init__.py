"""The Celery worker: reads a series from the spool, runs its pipeline, writes the result folder.

It knows the broker, the spool and the weights; no PACS and no database.
"""
