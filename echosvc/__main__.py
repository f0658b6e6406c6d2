"""``python -m echosvc`` is the command ``echosvc``."""

from echosvc.cli import main

if __name__ == "__main__":
    main()
