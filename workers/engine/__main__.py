"""``python -m workers.engine``: one request on standard input, reply lines on standard output."""

from __future__ import annotations

import os
import sys

from workers.engine.serve import serve

if __name__ == "__main__":
    status = serve()
    sys.stderr.flush()
    # Frameworks' threads and destructors have nothing left to say, and some of them hang or crash when asked.
    os._exit(status)
