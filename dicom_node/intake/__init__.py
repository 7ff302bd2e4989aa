"""Intake, from the inbox to a job: files are filed, their series followed until it is whole, and judged by the rules."""
