"""Devices: what runs a compiled model. `interface` says what a device is, `registry` which there are."""
