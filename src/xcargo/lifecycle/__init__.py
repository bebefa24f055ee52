"""The life of a stored value after its push: what is stored, what refers to it, what may go, and where it moves to."""
