"""Phantoms: drawn images with known lesions, for machines without data and for tests.

``canvas``, ``shapes`` and ``textures`` have the brushes, ``brain``, ``breast``, ``chest`` and
``other_pictures`` draw, ``exposure`` is the scanner, ``painting`` is what was drawn, also in words,
``phantom`` is the table of kinds, ``writer`` writes a data set.
Nothing here is clinical: a class is seen by the cause its caption names, and by nothing else.
"""
