"""The public objects, thin: they check what users hand in and call devices."""
