"""From the inbox to a job: received files are filed, their series followed until it is whole, and judged by the rules."""
