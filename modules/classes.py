"""The six classes of a pixel of a portrait, and which of them make up its parts (spec data_gen 3 and 4)."""

BACKGROUND, HAIR, BODY_SKIN, FACE_SKIN, CLOTHES, OTHERS = range(6)      # body skin: the neck; others: glasses, hats
CLASSES = 6
HEAD_CLASSES = (HAIR, FACE_SKIN, OTHERS)
TORSO_CLASSES = (BODY_SKIN, CLOTHES)
