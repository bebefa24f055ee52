"""What `make build` made, tried as a user gets it: in an empty environment of every supported Python."""
