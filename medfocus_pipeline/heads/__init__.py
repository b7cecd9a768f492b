"""Heads: what is trained on cached features. One module a method, named in one table."""
