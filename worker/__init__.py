"""The Celery worker: reads a series from the spool, runs its pipeline, writes the result folder."""
