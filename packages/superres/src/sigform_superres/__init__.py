"""Upscale images 2, 3 or 4 times with CRAFT and DLGSANet."""
