"""The server of `inference.serve` and the page of `inference.app`: portraits, videos and live sessions over HTTP."""
