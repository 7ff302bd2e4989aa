"""Routing: which pipeline wants a series, and why, by declarative rules over the tags of all its images.

Rules are data (``rules``, ``default_rules.toml``); ``match`` applies them and ``explain`` shows each verdict.
"""
