"""Every file measured once; manifests written whole or not at all."""
