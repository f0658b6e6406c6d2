"""Names echosvc to twistd.

twistd reads this file at every start of any service, so that it imports nothing of echosvc. The name of the
variable and of the service never change: twistd caches both.
"""

from twisted.application.service import ServiceMaker

echosvc = ServiceMaker(
    "echosvc", "echosvc.tap", "TCP and UDP echo (RFC 862) that loses nothing and loops nothing.", "echosvc"
)
