"""``python -m stages`` is ``medfocus``."""

from stages.cli import main

if __name__ == "__main__":
    main()
