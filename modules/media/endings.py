"""What can be written, by the ending of its name. Nothing here is slow to import: options are checked with it."""

VIDEO = ".mp4"
TRANSPARENT_VIDEOS = (".webm", ".mov")
ANIMATIONS = (".gif", ".webp")  # pictures that move, without sound
STILLS = (".png", ".jpg", ".jpeg")
FOLDER = ""  # a name without an ending: a folder of PNGs
OPAQUE = (VIDEO, *ANIMATIONS, *STILLS, FOLDER)
WITH_ALPHA = (*TRANSPARENT_VIDEOS, ".webp", ".png", FOLDER)
LONGEST_ANIMATION = 30.0  # seconds; an animation is held in memory until it is whole
