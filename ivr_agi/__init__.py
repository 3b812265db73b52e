"""Pay a merchant by phone: a FastAGI server between Asterisk and PayStar's telephone gateway."""

__version__ = "0.1.0"
