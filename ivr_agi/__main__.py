"""`python -m ivr_agi` is `ivr-agi`."""

from ivr_agi.cli import main

main()
