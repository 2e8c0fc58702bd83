"""A user's own script in a mended environment: importing timm and torchvision is no error."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytest.importorskip("torch")
from fiducial.models import torchvision_shim

SCRIPT = "import timm, torchvision; print(torchvision.transforms.CenterCrop(3).size)"


@pytest.mark.skipif(not importlib.util.find_spec("timm"), reason="no timm")
@pytest.mark.skipif(sys.platform == "win32", reason="the folder of packages has another name")
def test_other_programs_of_a_mended_environment_can_import_timm(tmp_path: Path) -> None:
    """An environment that sees the packages of this one: with a torchvision that works nothing changes."""
    venv.create(tmp_path)
    python = tmp_path / "bin" / "python"
    packages = next(tmp_path.glob("lib/*/site-packages"))
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"])
    torchvision_shim.mend(packages)
    done = subprocess.run([python, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (0, "(3, 3)\n"), done.stderr
    idle = subprocess.run(
        [python, "-c", "import sys; print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert idle.stdout == "False\n"
