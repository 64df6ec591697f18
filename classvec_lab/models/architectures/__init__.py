"""How each source's network is built, and cut into an encoder and a head."""
