"""What is served over HTTP, on the server's own loop: health and metrics, for the machine's own network.

It reads and answers, and never stands in a call's way: whatever happens here, calls go on.
"""

from ivr_agi.web.health import Health
from ivr_agi.web.listener import Web

__all__ = ["Health", "Web"]
