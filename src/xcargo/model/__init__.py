"""Facts and decisions: addresses, roots, envelopes, settings, keys. Pure; standard library only."""
