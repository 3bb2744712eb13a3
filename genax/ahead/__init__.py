"""Compiling for devices that are not here, and reading what the compiler made."""
