"""What setup.cfg cannot say: in a wheel, ``experiments`` and ``hpo`` lie inside of ``lightning_seg``,
in ``_beside``, where `lightning_seg.files.shipped` finds them. So no wheel puts packages with names
of everybody's into site-packages. In a checkout, and in an editable installation of it, they stay
where they are.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

INSIDE = ("experiments", "hpo")
LEFT_OUT = ("benchmarks",)  # needs a checkout


class BuildInside(build_py):
    """Builds all packages, then moves those beside lightning_seg into it."""

    def run(self) -> None:
        """Build; an editable installation moves nothing."""
        built = Path(self.build_lib)
        beside = built / "lightning_seg" / "_beside"
        # of an earlier build in the same folder
        shutil.rmtree(beside, ignore_errors=True)
        super().run()
        if self.editable_mode:
            return
        beside.mkdir(parents=True, exist_ok=True)
        for name in INSIDE:
            shutil.move(built / name, beside / name)
        for name in LEFT_OUT:
            shutil.rmtree(built / name, ignore_errors=True)


setup(cmdclass={"build_py": BuildInside})
