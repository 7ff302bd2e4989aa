"""Jobs: states and history in SQLite, the way to Celery, and what brings them back when a worker dies.

The node alone writes the database; workers answer with files in the spool.
"""
