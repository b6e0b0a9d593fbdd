"""Anyone's folder of pictures or scans as a table and a recipe that `fit` trains at once.

``adopt_folder`` looks at names and pixels, decides what is what by the safe reading, says what it
found, and writes both files. ``survey`` finds the files, ``roles`` tells pictures from masks,
``pairing`` finds whose masks they are, ``sorts`` and ``values`` what they mean, ``division``
splits and groups, ``plan`` the recipe.
"""

from lightning_seg.data.adopt.adoption import Adoption, adopt_folder
from lightning_seg.data.adopt.finding import AdoptChoice

__all__ = ["AdoptChoice", "Adoption", "adopt_folder"]
