"""What all tests share: threads that start while coverage is measured."""

from __future__ import annotations

import sys
import threading
import time


class PatientSys:
    """``sys`` for ``threading``, with a ``settrace`` that waits for its turn.

    CPython before 3.12 refuses to install a trace function while another thread installs one. Coverage traces every
    thread, so a thread that starts at such a moment, as those of a store do, would end before it had begun.
    """

    def __getattr__(self, name):
        return getattr(sys, name)

    @staticmethod
    def settrace(hook):
        for _ in range(1000):
            try:
                sys.settrace(hook)
            except RuntimeError:
                time.sleep(0.001)
            else:
                return
        sys.settrace(hook)


if sys.version_info < (3, 12):
    threading._sys = PatientSys()
