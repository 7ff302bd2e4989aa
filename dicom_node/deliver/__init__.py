"""Delivery: C-STORE of results, tracked object by object, and C-FIND to prove that they are there.

What is confirmed is never sent again, and what is sent again has the same bytes.
"""
