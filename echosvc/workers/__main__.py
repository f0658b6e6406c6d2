"""The command of a worker: ``python -m echosvc.workers REACTOR``. Only the parent can use it."""

import sys

from echosvc.workers.worker import main

main(sys.argv[1])
