"""Generate images, video, and video with sound, with StyleSwin, VDT and AV-DiT."""
