"""Coverage-guided fuzzing of everything that reads stored bytes."""
