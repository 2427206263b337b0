"""`python -m local.soak`; see `--help`."""

import sys

from local.soak.main import main

sys.exit(main(sys.argv[1:]))
