"""`python -m benchmarks.quality`: what one pass with defaults learns, beside what others' defaults learn."""
