"""``python -m snnc`` is ``snnc``."""

from snnc.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
