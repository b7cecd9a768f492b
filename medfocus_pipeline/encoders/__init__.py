"""Encoders: the protocols and the table of implementations."""
