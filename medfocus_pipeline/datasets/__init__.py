"""Data sets: cards, the scan of a folder into its manifest, readers and splits.

``card`` says what a data set is, ``tree`` and ``listing`` find its images, ``layout`` gives
them split and class, ``readers`` decode them, ``scan`` puts all that into a ``manifest``, and
``splits`` divides it.
"""
