"""A small corpus of real speech out of Debian's packages."""
