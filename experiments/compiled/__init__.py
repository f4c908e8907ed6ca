"""The kernels compiled for devices that are not here."""
