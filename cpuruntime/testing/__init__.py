"""For tests: the conformance suite of devices. Needs pytest, which the package itself does not."""
