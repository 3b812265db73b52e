"""The pages, one module each: what they ask, what they show, and what they do when a form comes back."""
