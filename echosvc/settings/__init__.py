"""One description of a running service, whether it came from options or from a file."""

from echosvc.settings.file import read_config
from echosvc.settings.model import GRACE, Defaults, Settings
from echosvc.settings.show import show

__all__ = ["GRACE", "Defaults", "Settings", "read_config", "show"]
