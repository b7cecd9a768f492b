"""What MedFocus survives: kills, flips, hostile files and command lines, with their counts.

``python -m tests.torture --kills 1000 --pairs 20 --inputs 300 --lines 400 --flips 50000``
"""
