"""python -m genax."""

import sys

from genax.cli.main import main

sys.exit(main())
