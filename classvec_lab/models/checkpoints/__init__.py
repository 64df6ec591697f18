"""Files of weights that others wrote: what they are, and what they hold."""
