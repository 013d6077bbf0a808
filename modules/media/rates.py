"""How fast everything goes: pictures, sound, and the features of sound. Nothing here is a setting."""

FRAME_RATE = 25                                     # pictures a second: clips, motions, fits and videos
SAMPLE_RATE = 16_000                                # samples of sound a second, one channel
FEATURE_RATE = 50                                   # frames of speech features a second
FRAME_SAMPLES = SAMPLE_RATE // FRAME_RATE           # samples that are heard with one picture
HOP = SAMPLE_RATE // FEATURE_RATE                   # samples from one feature frame to the next
