"""Videos frame by frame: what a stream keeps of the past, and how detections become tracks."""
