"""How files and objects become arrays, and what is refused.

``conversion`` is the one rule for pictures; ``pictures`` reads picture files with it, ``masks``
mask files, ``volumes`` NIfTI and ``dicom`` series of DICOM files; ``folders`` finds files.
"""
