"""The command of a worker: ``python -m echosvc.workers REACTOR``. Only the parent can use it."""

import sys

from echosvc.rights import forbid_inspection

forbid_inspection()

from echosvc.workers.worker import main  # noqa: E402  # it takes long to import

main(sys.argv[1])
