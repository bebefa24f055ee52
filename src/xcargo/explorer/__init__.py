"""Looking into stored values without loading them: what a page on the screen needs, in bounded memory and time."""
