"""What finishes the certificate of a Core ML package on a Mac: recorded answers, and a script that needs no Fiducial."""

from __future__ import annotations

import inspect
from pathlib import Path

from fiducial import files
from fiducial.exporting import mac_certificate, recorded
from fiducial.exporting.recorded import Recorded


def written(file: Path, answers: Recorded) -> str:
    """Writes model.recorded.npz and model.certify.py beside the file; says what is to be done with them."""
    stem = file.name.partition(".")[0]
    recorded.save(answers, file.with_name(f"{stem}.recorded.npz"))
    script = file.with_name(f"{stem}.certify.py")
    files.write_text(script, inspect.getsource(mac_certificate))
    return f"copy the folder to a Mac, `{mac_certificate.INSTALL}` there, and `python {script.name}` finishes the certificate"
