"""``python -m rookery``: the command line."""

from __future__ import annotations

if __name__ == "__main__":
    import sys

    try:  # the imports take a while, and Ctrl-C may come at any time
        from rookery._cli import main

        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
