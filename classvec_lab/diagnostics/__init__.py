"""What fine-tuning did: orthogonality, linearity, neural collapse and performance, each a room
of its own.
"""
