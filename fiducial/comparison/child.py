"""`python -m fiducial.comparison.child fit ..` is `fiducial fit ..` that ends with the process that started it.

Standard input is a pipe that nothing is written into: it closes when the comparison ends, however it ends, so that a
killed comparison leaves no training behind that would go on in a folder which the next one continues."""

from __future__ import annotations

import os
import runpy
import signal
import threading


def main() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("fiducial.cli", run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    # Not sys.stdin: the interpreter can't end while another thread holds its lock.
    while os.read(0, 1024):
        pass
    # Killed and not stopped: checkpoints are renamed into place, so a run can be killed at any time.
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


if __name__ == "__main__":
    main()
