"""What MedFocus survives: kills, flips, hostile images and command lines, with their counts.

``python -m tests.torture --kills 1000 --flips 50000 --inputs 300 --lines 400``
"""
