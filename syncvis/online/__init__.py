"""Videos at test time: streams of chunks, causal windows, linking and tracking over frames."""
