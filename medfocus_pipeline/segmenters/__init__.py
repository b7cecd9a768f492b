"""Segmenters: the protocol and the table of implementations."""
