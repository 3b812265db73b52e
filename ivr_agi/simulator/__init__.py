"""Stand-ins for what a developer's desk lacks: the gateway, Asterisk, and a phone.

Nothing here imports the client's side (`agi`, `gateway`, `call`, …): a stand-in that shared the
product's parsing would share its mistakes and hide them.
"""
