"""`python -m modeldeck`: what the command `modeldeck` runs."""

import sys

from modeldeck.tui.program import main

sys.exit(main())
