"""What fine-tuning did: orthogonality, linearity and neural collapse, each a room
of its own.
"""
