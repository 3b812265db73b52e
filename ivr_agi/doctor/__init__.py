"""The doctor behind `ivr-agi check`: what stands in the way of a payment, or lets a card number out.

It looks and never changes: no row, no file and no request to the gateway is left behind. It shows
no secret: of settings, AMI users and addresses it names the place, never the value.
"""
