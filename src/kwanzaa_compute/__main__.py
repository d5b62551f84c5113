"""`python -m kwanzaa_compute` is `kwanzaa`."""

import sys

from kwanzaa_compute.cli import main

if __name__ == "__main__":
    sys.exit(main())
