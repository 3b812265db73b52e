"""`python -m ivr_agi.panel.trial` is the trial line; only the panel starts it."""

from ivr_agi.panel.trial.line import main

main()
