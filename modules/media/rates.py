"""Rates of frames, sound and speech features, in Hz, and their ratios. Constants, no settings."""

FRAME_RATE = 25  # frames a second: clips, motions, fits and videos
SAMPLE_RATE = 16_000  # samples of sound a second, one channel
FEATURE_RATE = 50  # frames of speech features a second
FRAME_SAMPLES = SAMPLE_RATE // FRAME_RATE  # samples of sound to a frame of video
HOP = SAMPLE_RATE // FEATURE_RATE  # samples from one feature frame to the next
