"""Masks, in plain NumPy: candidates, the region of interest, focus modes and views."""
