"""The configuration: its tables, the reading of file and environment, and what is wrong with them in one line."""
